"""What A2C, PPO and REINFORCE share: their contract, over all kinds of spaces, and the data they learn from."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.actor_critic import ActorCriticAgent

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError
from rllab.testing import check_algorithm


class Clock(gymnasium.Env):
    """Shows how many steps the episode has had; the reward of a step is its number."""

    observation_space: Any = spaces.Box(0, 100, (1,), np.float32)
    action_space: Any = spaces.Discrete(2, start=3)

    def __init__(self, terminate: int = 0, truncate: int = 0) -> None:
        self.terminate, self.truncate = terminate, truncate
        self.taken: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.at += 1
        return self.look(), float(self.at), self.at == self.terminate, self.at == self.truncate, {}

    def look(self) -> Any:
        return np.array([self.at], np.float32)


class Several(Clock):
    action_space = spaces.MultiDiscrete([2, 3], start=[1, 0])


class Switches(Clock):
    action_space = spaces.MultiBinary([2, 2])


class Pair(Clock):
    action_space = spaces.Box(np.array([-0.01, 0.0], np.float32), np.array([0.01, 0.02], np.float32))


class Looking(Clock):
    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)

    def look(self) -> Any:
        return np.full((36, 36, 1), self.at, np.uint8)


class Whole(Clock):
    action_space = spaces.Box(0, 9, (1,), np.int64)


KINDS = (Clock, Several, Switches, Pair, Looking, Whole)


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    for kind in KINDS:
        made: Any = kind
        gymnasium.register(f"onpolicy-test/{kind.__name__}-v0", made, kwargs={"terminate": 7})
    yield
    for kind in KINDS:
        del gymnasium.registry[f"onpolicy-test/{kind.__name__}-v0"]


MADE: list[Any] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "Clock", method: str = "a2c", **options: Any) -> Any:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "timesteps": 1000, "num_envs": 2, "hidden": "8", **options}
    agent, _ = experiment.build(planning.plan(method, f"onpolicy-test/{environment}-v0", values))
    agent.setup()
    MADE.append(agent)
    return agent


# --- the contract ---------------------------------------------------------------------------------

SMALL: dict[str, dict[str, Any]] = {
    "a2c": {"num_envs": 2, "normalize_advantages": True},
    "ppo": {"num_envs": 2, "rollout_steps": 6, "batch_size": 4, "update_epochs": 2, "entropy_coef": 0.1},
    "reinforce": {"num_envs": 2, "max_episode_steps": 9, "value_steps": 2},
}
KINDS_OF_ACTIONS = ["CartPole-v1", "Pendulum-v1", "onpolicy-test/Several-v0", "onpolicy-test/Switches-v0"]


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("environment", KINDS_OF_ACTIONS)
def test_they_keep_the_contract_for_all_kinds_of_actions(method: str, environment: str) -> None:
    check_algorithm(method, environment, steps=2, timesteps=500, hidden="8", eval_episodes=2, **SMALL[method])


@pytest.mark.parametrize("method", ["a2c", "ppo"])
def test_they_keep_the_contract_with_normalisation(method: str) -> None:
    options = {"normalize_observations": True, "normalize_returns": True, "max_episode_steps": 9, **SMALL[method]}
    check_algorithm(method, "Pendulum-v1", steps=2, timesteps=500, hidden="8", eval_episodes=2, **options)


def test_ppo_keeps_the_contract_with_an_lstm() -> None:
    options: dict[str, Any] = {**SMALL["ppo"], "batch_size": 6, "recurrent": "lstm", "lstm_size": 5}
    check_algorithm("ppo", "CartPole-v1", steps=2, timesteps=500, hidden="8", eval_episodes=2, **options)


@pytest.mark.parametrize("method", SMALL)
def test_images_are_looked_at_by_a_cnn(method: str) -> None:
    small: dict[str, dict[str, Any]] = {"ppo": {"rollout_steps": 4, "batch_size": 4, "update_epochs": 1}}
    small["reinforce"] = {"baseline": "mean"}
    agent = agent_for("Looking", method, hidden="none", num_envs=1, max_episode_steps=3, **small.get(method, {}))
    before = {name: weights.clone() for name, weights in agent.weights().items()}
    agent.step()
    convolutions = [name for name, weights in before.items() if weights.ndim == 4]
    assert len(convolutions) == 3  # actor and critic share them
    assert all(not torch.equal(before[name], agent.weights()[name]) for name in convolutions)
    actions, _ = agent.act(agent.envs.observations, deterministic=True)
    assert agent.action_space.contains(actions[0])


def test_spaces_that_do_not_fit_are_refused() -> None:
    task = EnvironmentTask.open("onpolicy-test/Whole-v0", EnvironmentConfig(), seed=0)
    said = "it takes Discrete, MultiDiscrete, MultiBinary and real Box actions, not Box"
    for method in SMALL:
        algorithm = planning.load_method(method).algorithm
        assert (algorithm.refusal(algorithm.Config.parse({}), task) or "").startswith(said)


def test_a_budget_below_one_rollout_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--timesteps 30 is less than one rollout.*say --rollout-steps 15 or fewer"):
        agent_for(timesteps=30, rollout_steps=16)


# --- the data of a rollout ------------------------------------------------------------------------


def collected(**options: Any) -> ActorCriticAgent:
    """Return an agent with V(s) = 10 s, after a rollout of 8 steps of one environment."""
    agent = agent_for(**{"num_envs": 1, "rollout_steps": 8, "hidden": "none", "gamma": 0.5, **options})
    with torch.no_grad():
        critic = agent.policy.critic[0]
        critic.weight.fill_(10.0)
        critic.bias.zero_()
    agent.collect()
    assert isinstance(agent, ActorCriticAgent)
    return agent


def test_a_rollout_has_what_was_seen_before_each_step_and_what_came_of_it() -> None:
    agent = collected(env_kwarg={"terminate": 3})
    rollout = agent.rollout
    assert rollout.observations[:, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert rollout.starts[:, 0].tolist() == [True, False, False] * 3
    assert rollout.rewards[:, 0].tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert np.flatnonzero(rollout.terminated[:, 0]).tolist() == [2, 5]
    assert not rollout.truncated.any()
    assert agent.count == 8  # steps, and no resets


def advantages_of(agent: ActorCriticAgent) -> list[float]:
    values = torch.from_numpy(10 * agent.rollout.observations[:-1].reshape(-1))
    advantages, returns = agent.estimates(values)
    assert torch.allclose(returns, advantages + values)
    return advantages.tolist()


def test_a_terminal_state_is_worth_nothing_and_the_last_one_what_the_critic_says() -> None:
    advantages = advantages_of(collected(env_kwarg={"terminate": 3}, gae_lambda=0.0))
    # r + V'/2 - V: 1 + 5, 2 + 10 - 10, 3 - 20, and so on; the last goes on to 2, worth 20
    assert advantages == [6, 2, -17, 6, 2, -17, 6, 2]


def test_truncation_bootstraps_from_the_final_observation() -> None:
    advantages = advantages_of(collected(env_kwarg={"truncate": 3}, gae_lambda=0.0))
    assert advantages == [6, 2, 3 + 15 - 20, 6, 2, 3 + 15 - 20, 6, 2]  # the final observation is 3, worth 30


def test_traces_stop_at_both_ends() -> None:
    for how, last in {"terminate": -17, "truncate": -2}.items():
        advantages = advantages_of(collected(env_kwarg={how: 3}, gae_lambda=1.0))
        assert advantages[:3] == [6 + (2 + last / 2) / 2, 2 + last / 2, last]


def test_both_flags_at_once_are_a_termination() -> None:
    rollout = collected(env_kwarg={"terminate": 3, "truncate": 3}).rollout
    assert np.flatnonzero(rollout.terminated[:, 0]).tolist() == [2, 5]
    assert not rollout.truncated.any()


def test_actions_are_stored_as_they_were_drawn_and_clipped_for_the_environment_alone() -> None:
    agent = agent_for("Pair", rollout_steps=16)  # the environment asserts that it gets actions of its space
    agent.collect()
    assert np.abs(agent.rollout.actions).max() > 0.1
    inputs, actions = agent.experience()
    outputs, _ = agent.policy(inputs)
    log_probs, _ = agent.policy.distribution.evaluate(outputs, actions)
    mean, std = outputs[:, :2], outputs[:, 2:].exp()
    normal: Any = torch.distributions.Normal(mean, std)
    expected = normal.log_prob(torch.from_numpy(agent.rollout.actions.reshape(-1, 2)))
    assert log_probs.shape == (32,)
    assert torch.allclose(log_probs, expected.sum(1), atol=1e-5)


def test_rows_are_time_steps_with_environments_side_by_side() -> None:
    agent = agent_for("Clock", num_envs=3, rollout_steps=4)
    agent.collect()
    inputs, _ = agent.experience()
    assert inputs[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    advantages, _ = agent.estimates(torch.zeros(12))
    assert advantages.shape == (12,)
    assert torch.equal(advantages.reshape(4, 3)[:, 0], advantages.reshape(4, 3)[:, 2])


# --- normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "options"), [("a2c", {}), ("ppo", {"batch_size": 4, "update_epochs": 2})])
def test_statistics_stand_still_during_a_rollout_and_take_it_in_after_it(method: str, options: dict[str, Any]) -> None:
    agent = agent_for("Clock", method, normalize_observations=True, rollout_steps=4, **options)
    normalizer = agent.policy.normalizer
    assert normalizer is not None
    agent.collect()
    assert normalizer.number == 0
    agent.step()
    assert normalizer.number == 8
    assert normalizer.mean.item() == (4 + 5 + 6 + 0) / 4  # of the second rollout


def test_evaluation_has_the_statistics_and_leaves_them_alone() -> None:
    agent = agent_for("Clock", normalize_observations=True, normalize_returns=True)
    for _ in range(3):
        agent.step()
    before = {name: value.clone() for name, value in agent.weights().items()}
    names = [name for name in before if "mean" in name]
    assert len(names) == 2  # of observations and of returns: they are saved with the weights
    assert agent.evaluate(2)["eval/return"] == sum(range(8))  # raw rewards
    assert all(torch.equal(before[name], value) for name, value in agent.weights().items())


def test_returns_are_normalised_by_their_deviation_and_reported_raw() -> None:
    agent = agent_for("Clock", normalize_returns=True, rollout_steps=7, num_envs=1, gamma=1.0)
    metrics = agent.collect()
    assert metrics["train/return"] == 28
    scaled = agent._rewards()
    deviation = np.std(np.cumsum(np.arange(1, 8)))
    np.testing.assert_allclose(scaled[:, 0], np.arange(1, 8) / deviation, rtol=1e-6)


@pytest.mark.parametrize("how", ["terminate", "truncate"])
def test_returns_to_normalise_by_begin_anew_with_each_episode_however_the_last_one_ended(how: str) -> None:
    agent = agent_for("Clock", env_kwarg={how: 3}, normalize_returns=True, rollout_steps=7, num_envs=1, gamma=1.0)
    agent.collect()
    deviation = np.std([1, 3, 6, 1, 3, 6, 1])
    np.testing.assert_allclose(agent._rewards()[:, 0], np.array([1, 2, 3, 1, 2, 3, 1]) / deviation, rtol=1e-6)


# --- the networks ---------------------------------------------------------------------------------


def test_weights_are_orthogonal_with_the_gains_of_the_literature() -> None:
    policy = agent_for("Several", hidden="16,16").policy
    for network, gains in ((policy.actor.body, (2**0.5, 2**0.5, 0.01)), (policy.critic, (2**0.5, 2**0.5, 1.0))):
        layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, gains, strict=True):
            weights = layer.weight.detach()
            weights = weights if weights.shape[0] <= weights.shape[1] else weights.t()
            assert torch.allclose(weights @ weights.t(), gain**2 * torch.eye(len(weights)), atol=1e-5)
            assert not layer.bias.any()


@pytest.mark.parametrize("environment", ["Clock", "Pair"])
def test_the_written_out_gradient_is_that_of_autograd(environment: str) -> None:
    agent = agent_for(environment, hidden="8,8", optimizer="sgd", max_grad_norm=0)
    policy, generator = agent.policy, torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 1, generator=generator)
    outputs, values = policy(inputs)
    slopes = torch.randn(outputs.shape, generator=generator), torch.randn(6, generator=generator)
    expected = torch.autograd.grad((outputs, values), list(policy.parameters()), slopes)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    found = agent.optimizer.forward(inputs, None, None)
    torch.testing.assert_close(found, (outputs.detach(), values.detach()))
    agent.optimizer.descend(torch.zeros(()), slopes, lr=1.0)
    moved = [old - new.detach() for old, new in zip(before, policy.parameters(), strict=True)]
    torch.testing.assert_close(moved, list(expected), rtol=1e-4, atol=1e-5)


def test_a_remembered_sequence_is_what_step_by_step_was_seen() -> None:
    agent = agent_for(
        "Clock", "ppo", recurrent="lstm", lstm_size=4, rollout_steps=12, batch_size=12, env_kwarg={"truncate": 5}
    )
    agent.collect()  # episodes of 5 end within it
    agent.collect()
    policy, rollout = agent.policy, agent.rollout
    inputs, _ = agent.experience()
    starts = torch.from_numpy(rollout.starts[:-1].reshape(-1))
    outputs, values = policy.look_back(inputs, agent.first_memory, starts)
    memory = agent.first_memory
    for t in range(12):
        h, memory = policy.features(inputs[2 * t : 2 * t + 2], memory, starts[2 * t : 2 * t + 2])
        torch.testing.assert_close(policy.actor(h), outputs[2 * t : 2 * t + 2])
        torch.testing.assert_close(policy.critic(h).squeeze(1), values[2 * t : 2 * t + 2])
    torch.testing.assert_close(memory, agent.memory)
    # an episode that starts forgets: its first value is that of an empty memory
    first = int(np.flatnonzero(rollout.starts[1:-1, 0])[0]) + 1
    h, _ = policy.features(inputs[2 * first : 2 * first + 1])
    torch.testing.assert_close(policy.critic(h)[0, 0], values[2 * first])


def test_memory_goes_through_act_and_is_emptied_at_starts() -> None:
    agent = agent_for("Clock", "ppo", recurrent="lstm", rollout_steps=4, batch_size=4)
    observations = np.array([[1.0], [1.0]], np.float32)
    _, memory = agent.act(observations, None, np.ones(2, bool), deterministic=True)
    _, longer = agent.act(observations, memory, np.array([False, True]), deterministic=True)
    assert not torch.equal(longer[:, 0], memory[:, 0])
    torch.testing.assert_close(longer[:, 1], memory[:, 1])


def test_the_value_of_a_truncated_state_comes_after_the_memory_of_its_episode() -> None:
    agent = agent_for(
        "Clock", "ppo", recurrent="lstm", rollout_steps=3, batch_size=3, env_kwarg={"truncate": 3}, num_envs=1
    )
    agent.collect()
    h, _ = agent.policy.features(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.zeros(2, 1, 64))
    assert agent.rollout.final_values[2, 0] == pytest.approx(agent.policy.critic(h)[3, 0].item(), rel=1e-5)


def test_the_value_of_what_a_rollout_came_to_goes_by_all_that_was_seen_in_it() -> None:
    agent = agent_for(
        "Clock",
        "ppo",
        recurrent="lstm",
        rollout_steps=3,
        batch_size=3,
        env_kwarg={"truncate": 9},
        num_envs=1,
        gamma=1.0,
        gae_lambda=0.0,
    )
    agent.collect()
    advantages, _ = agent.estimates(torch.zeros(3))
    h, _ = agent.policy.features(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.zeros(2, 1, 64))
    assert advantages[2].item() == pytest.approx(3 + agent.policy.critic(h)[3, 0].item(), abs=1e-5)
