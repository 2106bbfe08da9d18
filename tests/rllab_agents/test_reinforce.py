from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.reinforce import Reinforce

from rllab import experiment, planning


class Lengths(gymnasium.Env[Any, Any]):
    """Episodes of 1, 2, 3, 1, ... steps, each worth 1; shows how many it has had. The third kind is cut off."""

    observation_space = spaces.Box(0, 9, (1,), np.float32)
    action_space = spaces.Discrete(2)
    episode = -1

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.episode = 0, (self.episode + 1) % 3
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        over = self.at == self.episode + 1
        return np.full(1, self.at, np.float32), 1.0, over and self.at < 3, over and self.at == 3, {}


class Either(Lengths):
    """Episodes of one step, which terminate or are cut off by chance."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        terminated = bool(self.np_random.integers(2))
        return np.ones(1, np.float32), 1.0, terminated, not terminated, {}


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    kinds: tuple[Any, ...] = (Lengths, Either)
    for kind in kinds:
        gymnasium.register(f"reinforce-test/{kind.__name__}-v0", kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"reinforce-test/{kind.__name__}-v0"]


MADE: list[Reinforce] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "reinforce-test/Lengths-v0", **options: Any) -> Reinforce:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "num_envs": 2, "hidden": "8", "timesteps": 60, **options}
    agent, _ = experiment.build(planning.plan("reinforce", environment, values))
    agent.setup()
    assert isinstance(agent, Reinforce)
    MADE.append(agent)
    return agent


def test_each_environment_plays_its_share_of_whole_episodes() -> None:
    agent = agent_for(rollout_episodes=3, baseline="none")
    played = agent.play()
    assert [episode.length for episode in played.episodes] == [1, 1, 2, 2, 3, 3]
    assert agent.count == 12  # steps, and no resets
    assert played.taken.all()
    assert played.observations[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 2, 2]
    assert np.flatnonzero(played.ended[:, 0]).tolist() == [0, 2, 5]


def test_environments_that_are_done_wait_for_the_others() -> None:
    agent = agent_for("CartPole-v1", num_envs=4)
    played = agent.play()
    lengths = played.taken.sum(0)
    assert len(set(lengths.tolist())) > 1
    assert sorted(lengths) == sorted(episode.length for episode in played.episodes)
    assert len(played.observations) == len(played.actions) == played.taken.sum() == agent.count
    assert all(agent.envs.starts)  # nothing was begun that would be left out


def returns_of(agent: Reinforce) -> list[float]:
    """Return what the policy and the value network learn from, in the order of the steps."""
    kept: list[Any] = []
    agent.learn = lambda inputs, actions, returns, lr: kept.append(returns) or {}  # type: ignore[method-assign, func-returns-value]
    agent.step()
    returns: list[float] = kept[0].tolist()
    return returns


def test_returns_are_the_rewards_from_each_step_to_the_end_of_its_episode() -> None:
    agent = agent_for(num_envs=1, rollout_episodes=3, baseline="none", gamma=0.5)
    assert returns_of(agent) == [1, 1.5, 1, 1.75, 1.5, 1]


def test_a_value_network_stands_for_what_a_time_limit_cut_off() -> None:
    agent = agent_for(num_envs=1, rollout_episodes=3, baseline="value", hidden="none", gamma=0.5)
    with torch.no_grad():
        for parameter, value in zip(agent.value.parameters(), (10.0, 0.0), strict=True):  # type: ignore[union-attr]
            parameter.fill_(value)
    # the final observation is 3, worth 30: 1 + 15;  1 + 16 / 2;  1 + 9 / 2
    assert returns_of(agent) == [1, 1.5, 1, 5.5, 9, 16]


def test_it_stands_for_nothing_where_another_episode_terminated_in_the_same_step() -> None:
    agent = agent_for("reinforce-test/Either-v0", num_envs=8, gamma=0.5)
    value: Any = agent.value
    with torch.no_grad():
        value[-1].weight.zero_()
        value[-1].bias.fill_(10.0)
    assert set(agent.play().rewards[0].tolist()) == {1.0, 1.0 + 0.5 * 10.0}


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_a_gradient_step_is_the_one_that_autograd_takes(environment: str, baseline: str) -> None:
    options = {"optimizer": "sgd", "max_grad_norm": 0, "entropy_coef": 0.1, "normalize_advantages": False}
    agent = agent_for(environment, baseline=baseline, **options)
    generator = torch.Generator().manual_seed(0)
    inputs = agent.inputs(np.stack([agent.observation_space.sample() for _ in range(6)]).clip(-9, 9))
    returns = torch.randn(6, generator=generator)
    parameters = list(agent.policy.parameters())
    outputs = agent.policy(inputs)
    actions = torch.from_numpy(agent.distribution.sample(outputs.detach().numpy(), np.random.default_rng(0)))
    log_probs, entropy = agent.distribution.evaluate(outputs, actions)
    baselines: dict[str, Any] = {"none": 0.0, "mean": returns.mean()}
    taken = agent.value(inputs).squeeze(1).detach() if agent.value is not None else baselines[baseline]
    loss = -((returns - taken) * log_probs).mean() - 0.1 * entropy.mean()
    gradients = torch.autograd.grad(loss, parameters)
    expected = [p.detach() - 0.25 * g for p, g in zip(parameters, gradients, strict=True)]
    agent.learn(inputs, actions, returns, 0.25)
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=1e-4, atol=1e-6)


def test_the_value_network_comes_closer_to_the_returns() -> None:
    agent = agent_for("CartPole-v1", value_steps=20, value_lr=0.01)
    inputs, returns = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.full((16,), 3.0)
    losses = [float(agent.learn_values(inputs, returns)["train/value_loss"]) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
