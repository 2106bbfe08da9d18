import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.sac import SAC, SACConfig

from rllab import experiment, planning
from rllab.agent import crossings
from rllab.errors import UsageError
from rllab.parts.replay import Batch
from rllab.testing import check_algorithm, check_resume_in_new_process


class Clock(gymnasium.Env):
    """Shows how many steps the episode has had; `end` says after how many it terminates; it pays the action."""

    observation_space: Any = spaces.Box(0, 100, (1,), np.float32)
    action_space: Any = spaces.Box(-2, 6, (1,), np.float32)

    def __init__(self, end: int = 1000) -> None:
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        self.at += 1
        return self.look(), float(np.sum(action)), self.at == self.end, False, {}

    def look(self):
        return np.full(self.observation_space.shape, self.at, self.observation_space.dtype)


class Unit(Clock):
    action_space = spaces.Box(-1, 1, (1,), np.float32)


class Unbounded(Clock):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Number(Clock):
    observation_space = spaces.Box(0, 100, (), np.float32)
    action_space = spaces.Box(0, 1, (), np.float64)


class Looking(Clock):
    observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)


class Target(gymnasium.Env):
    """One step: the reward is highest, 0, for the action 3 times what is seen, between -2 and 6."""

    observation_space = spaces.Box(-1, 2, (1,), np.float32)
    action_space = spaces.Box(-2, 6, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-0.6, 1.9, 1).astype(np.float32)
        return self.at, {}

    def step(self, action):
        return self.at, -float((action[0] - 3 * self.at[0]) ** 2), True, False, {}


KINDS = (Clock, Unit, Unbounded, Number, Looking, Target)


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    for kind in KINDS:
        gymnasium.register(f"sac-test/{kind.__name__}-v0", kind)
    yield
    for kind in KINDS:
        del gymnasium.registry[f"sac-test/{kind.__name__}-v0"]


MADE: list[SAC] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "Clock", **options: Any) -> SAC:
    """Return an agent that is set up; it learns from the first step on unless told otherwise."""
    values = {
        **{"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8"},
        **{"batch_size": 4, "buffer_size": 500, **options},
    }
    agent, _ = experiment.build(planning.plan("sac", f"sac-test/{environment}-v0", values))
    agent.setup()
    assert isinstance(agent, SAC)
    MADE.append(agent)
    return agent


# --- the losses, by hand ------------------------------------------------------------------------------------


def by_hand(**options: Any) -> SAC:
    """Return an agent with Q = (s + 2 a, 3 s - a), Q_target = (4 s + a, s + 5 a), and a policy N(0.5 s, 1)."""
    agent = agent_for(hidden="none", gamma=0.5, batch_size=2, optimizer="sgd", **options)
    with torch.no_grad():
        for network, slopes in ((agent.critics, [[1, 2], [3, -1]]), (agent.target, [[4, 1], [1, 5]])):
            network.weights[0].copy_(torch.tensor(slopes)[:, :, None])
            network.biases[0].zero_()
        agent.actor[0].weight.copy_(torch.tensor([[0.5], [0.0]]))
        agent.actor[0].bias.zero_()
    return agent


def no_noise(agent: SAC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))


def log_density(u: float) -> float:
    """Return the log-probability of tanh(u) where u is the mean and the standard deviation 1."""
    return -0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(u) ** 2)


def batch(terminated: float = 0.0) -> Batch:
    """Return one transition twice: from 1 by action 0.5 with reward 1 to 2."""
    return Batch(
        observations=torch.ones(2, 1),
        actions=torch.full((2, 1), 0.5),
        rewards=torch.ones(2),
        next_observations=torch.full((2, 1), 2.0),
        terminated=torch.full((2,), terminated),
    )


def test_the_target_is_the_smaller_target_value_and_the_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """In s' = 2 the action is tanh(1), the values 8 + tanh(1) and 2 + 5 tanh(1), of which the second is smaller."""
    agent = by_hand()
    no_noise(agent, monkeypatch)
    y = agent.targets(batch(), torch.tensor(0.2))
    expected = 1 + 0.5 * (2 + 5 * math.tanh(1) - 0.2 * log_density(1))
    assert y.tolist() == pytest.approx([expected, expected])
    assert not y.requires_grad


def test_a_terminal_state_has_neither_value_nor_entropy() -> None:
    assert by_hand().targets(batch(terminated=1.0), torch.tensor(0.2)).tolist() == [1, 1]


def test_the_critics_loss_is_half_the_squared_error_summed_over_both() -> None:
    """Q(1, 0.5) = (2, 2.5); against y = 1 that is 1/2 (1 + 1.5^2)."""
    loss = by_hand().value_loss(torch.ones(2, 1), torch.full((2, 1), 0.5), torch.ones(2))
    assert loss.item() == pytest.approx(0.5 * (1 + 2.25))


def test_the_policys_loss_is_the_cost_of_its_density_less_the_smaller_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """In s = 1 the action is tanh(0.5), the values 1 + 2 tanh(0.5) = 1.92 and 3 - tanh(0.5) = 2.54."""
    agent = by_hand()
    no_noise(agent, monkeypatch)
    loss, entropy = agent.policy_loss(torch.ones(2, 1), torch.tensor(0.2))
    a = math.tanh(0.5)
    assert loss.item() == pytest.approx(0.2 * log_density(0.5) - (1 + 2 * a))
    assert entropy.item() == pytest.approx(-log_density(0.5))
    # by the mean u: 0.2 * 2 a - 2 (1 - a^2), through u = 0.5 s; by the log standard deviation -0.2, as the noise is 0
    loss.backward()
    slope = 0.4 * a - 2 * (1 - a**2)
    assert agent.actor[0].weight.grad.flatten().tolist() == pytest.approx([slope, -0.2])


def test_the_policys_loss_leaks_into_no_critic_and_the_critics_into_no_policy() -> None:
    agent = agent_for()
    loss, _ = agent.policy_loss(torch.ones(4, 1), torch.tensor(0.2))
    loss.backward()
    assert all(p.grad is None for p in agent.critics.parameters())
    assert all(p.grad is not None for p in agent.actor.parameters())
    agent = agent_for()
    drawn = batch()
    agent.value_loss(drawn.observations, drawn.actions, agent.targets(drawn, agent.alpha)).backward()
    for network in (agent.actor, agent.target, agent.temperature):
        assert network is not None
        assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None for p in agent.critics.parameters())


@pytest.mark.parametrize("part", ["rewards", "terminated"])
def test_a_column_instead_of_a_vector_is_caught_before_it_broadcasts(part: str) -> None:
    with pytest.raises(AssertionError):
        by_hand().targets(batch()._replace(**{part: torch.ones(2, 1)}), torch.tensor(0.2))
    with pytest.raises(AssertionError):
        by_hand().value_loss(torch.ones(2, 1), torch.ones(2, 1), torch.ones(2, 1))


# --- the temperature ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entropy", "change"), [(2.0, -1), (-1.0, 0), (-3.0, 1)])
def test_too_much_entropy_lowers_the_temperature_and_too_little_raises_it(entropy: float, change: int) -> None:
    """With a target of -1 the gradient by log alpha is the entropy + 1, and a step of 0.1 goes against it."""
    agent = agent_for(initial_alpha=0.5)
    assert agent.target_entropy == -1
    assert agent.temperature is not None
    loss = agent.temperature_loss(torch.tensor(entropy))
    (slope,) = torch.autograd.grad(loss, agent.temperature.log_alpha)
    assert slope.item() == pytest.approx(entropy + 1)
    assert np.sign(-slope.item()) == change


def test_the_temperature_is_learned_by_its_logarithm_and_stays_positive() -> None:
    agent = agent_for(initial_alpha=0.5, optimizer="sgd", lr=1.0)
    assert agent.temperature_steps is not None
    for _ in range(3):
        agent.temperature_steps(agent.temperature_loss(torch.tensor(9.0)))
    assert agent.alpha.item() == pytest.approx(0.5 * math.exp(-30), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_fixed_temperature_stays(alpha: float) -> None:
    agent = agent_for(alpha=alpha)
    for _ in range(5):
        metrics = agent.step()
    assert float(metrics["train/alpha"]) == pytest.approx(alpha)
    assert agent.temperature is None


def test_the_target_entropy_is_minus_the_number_of_dimensions_or_what_was_asked_for() -> None:
    assert agent_for().target_entropy == -1
    assert agent_for(target_entropy=-0.3).target_entropy == -0.3


# --- what is stored and played ------------------------------------------------------------------------------


def stored(agent: SAC, steps: int) -> dict[str, list[float]]:
    for _ in range(steps):
        agent.step()
    state = agent.replay.state_dict()
    names = ("observations", "next_observations", "terminated", "actions", "rewards")
    return {name: state[name].reshape(-1).tolist() for name in names}


def test_actions_are_stored_scaled_and_played_between_asymmetric_bounds() -> None:
    found = stored(agent_for(), 30)  # the environment refuses what is not in its space, and pays the action
    assert -1 <= min(found["actions"]) < 0 < max(found["actions"]) <= 1
    assert found["rewards"] == pytest.approx([2 + 4 * a for a in found["actions"]], abs=1e-5)


def test_the_units_of_the_actions_change_nothing_but_what_is_played() -> None:
    one, other = agent_for("Clock"), agent_for("Unit")
    for agent in (one, other):
        for _ in range(10):
            agent.step()
    states = [agent.replay.state_dict()["actions"] for agent in (one, other)]
    assert states[0][0] == states[1][0]
    assert one.target_entropy == other.target_entropy
    observations = np.ones((3, 1), np.float32)
    for agent in (one, other):
        outputs = agent.outputs(observations)
        played, _ = agent.act(observations, deterministic=True)
        np.testing.assert_allclose(agent.bounds.to_unit(played), np.tanh(outputs[:, :1]), atol=1e-6)


def test_a_truncated_episode_keeps_its_final_observation_and_bootstraps() -> None:
    found = stored(agent_for(max_episode_steps=3), 7)
    assert found["next_observations"] == [1, 2, 3, 1, 2, 3, 1]
    assert found["terminated"] == [0] * 7


def test_a_terminated_episode_is_marked() -> None:
    found = stored(agent_for(env_kwarg="end=3", max_episode_steps=3), 7)
    assert found["next_observations"] == [1, 2, 3, 1, 2, 3, 1]
    assert found["terminated"] == [0, 0, 1, 0, 0, 1, 0]


def test_before_learning_starts_actions_are_uniform_and_then_the_policys() -> None:
    agent = agent_for(num_envs=4000, learning_starts=4000, timesteps=20_000, buffer_size=8000, train_every=20_000)
    with torch.no_grad():
        agent.actor[-1].bias.copy_(torch.tensor([1.0, -20.0]))
        agent.actor[-1].weight.zero_()
    agent.step()
    agent.step()
    first, then = np.split(agent.replay.state_dict()["actions"], 2)
    assert np.histogram(first, 4, (-1, 1))[0] == pytest.approx([1000] * 4, rel=0.15)
    np.testing.assert_allclose(then, math.tanh(1), atol=1e-5)


def test_acting_is_the_squashed_mean_or_a_sample() -> None:
    agent = agent_for()
    with torch.no_grad():
        agent.actor[-1].weight.zero_()
        agent.actor[-1].bias.copy_(torch.tensor([0.5, math.log(0.3)]))
    observations = np.ones((20_000, 1), np.float32)
    best, _ = agent.act(observations, deterministic=True)
    assert best.shape == (20_000, 1)
    np.testing.assert_allclose(best, 2 + 4 * math.tanh(0.5), rtol=1e-6)
    samples, _ = agent.act(observations, deterministic=False)
    u = np.arctanh((samples - 2) / 4)
    assert u.mean() == pytest.approx(0.5, abs=0.01)
    assert u.std() == pytest.approx(0.3, abs=0.01)


def test_observations_and_actions_may_be_numbers() -> None:
    agent = agent_for("Number", normalize_observations=True, num_envs=2)
    for _ in range(5):
        assert "train/value_loss" in agent.step()
    actions, _ = agent.act(np.ones(3, np.float32), deterministic=True)
    assert actions.shape == (3,)
    assert actions.dtype == np.float64


# --- how often it learns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_the_updates_for_each_step_are_the_same_for_any_number_of_environments(num_envs: int) -> None:
    """240 steps, learning after 24, one round of 2 for every 4 steps: (240 - 24) / 4 * 2 = 108."""
    options = {"timesteps": 240, "learning_starts": 24, "train_every": 4, "gradient_steps": 2, "batch_size": 16}
    agent = agent_for(num_envs=num_envs, **options)
    batches: list[Batch] = []
    sample = agent.replay.sample

    def watching(*arguments: Any) -> Batch:
        batches.append(sample(*arguments))
        return batches[-1]

    agent.replay.sample = watching  # type: ignore[method-assign]
    while agent.count < 240:
        before = len(batches)
        agent.step()
        assert len(batches) == before or agent.count > 24
    assert len(batches) == 108
    assert len({tuple(drawn.actions.flatten().tolist()) for drawn in batches}) == 108  # a batch of its own for each


def test_the_target_begins_as_the_critics_are_and_follows_them_by_tau_alone() -> None:
    agent = agent_for(tau=0.25, optimizer="sgd", lr=0.1)
    target, online = list(agent.target.parameters()), list(agent.critics.parameters())
    assert all(torch.equal(a, b) for a, b in zip(target, online, strict=True))
    before = [p.clone() for p in target]
    agent.step()
    for old, new, ours in zip(before, target, online, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * ours)
        assert not new.requires_grad
    assert any(not torch.equal(a, b) for a, b in zip(before, target, strict=True))


@pytest.mark.parametrize(("count", "lr"), [(1, 0.099), (50, 0.05), (100, 0.0)])
def test_the_step_size_at_start_middle_and_end(count: int, lr: float) -> None:
    agent = agent_for(lr=0.1, schedule="linear", batch_size=2)
    agent.step()
    agent.count = count - 1
    assert agent.step()["train/lr"] == pytest.approx(lr)


def test_metrics_of_several_gradient_steps_are_their_mean() -> None:
    agent = agent_for(gradient_steps=3)
    values: list[float] = []
    learn = agent.learn

    def watching(lr: float) -> Any:
        metrics = learn(lr)
        values.append(float(metrics["train/value_loss"]))
        return metrics

    agent.learn = watching  # type: ignore[method-assign]
    assert float(agent.step()["train/value_loss"]) == pytest.approx(sum(values) / 3)
    assert len(values) == 3


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sac", "td3", "ddpg"])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("CartPole-v1", "it takes Box actions, not Discrete"),
        (
            "sac-test/Unbounded-v0",
            r"an action bound is infinite: number 0 lies in \[-inf, inf\]; reinforce, a2c and ppo",
        ),
        ("sac-test/Looking-v0", r"it takes vectors, and the observations are images of \(96, 96, 3\)"),
    ],
)
def test_spaces_it_cannot_handle_are_refused_before_anything_starts(method: str, target: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{method} cannot be trained on {target}: .*{reason}") as caught:
        planning.plan(method, target, {"preset": "none"})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_starts": 100, "timesteps": 100}, "--learning-starts 100 is not below --timesteps 100: no update"),
        ({"timesteps": 150, "train_every": 200}, "--train-every 200 has no multiple above --learning-starts 100"),
        ({"gamma": 1.1}, "--gamma 1.1: should be less than or equal to 1"),
        ({"tau": 0}, "--tau 0: should be greater than 0"),
        ({"alpha": -1}, "--alpha -1: should be greater than or equal to 0"),
        ({"initial_alpha": 0}, "--initial-alpha 0: should be greater than 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SACConfig.parse(values)


def test_exactly_the_configurations_that_never_learn_are_refused() -> None:
    for timesteps in range(1, 7):
        for every in range(1, 7):
            for starts in range(7):
                rounds = [n for n in range(1, timesteps + 1) if n > starts and crossings(n - 1, n, every)]
                try:
                    SACConfig.parse({"timesteps": timesteps, "train_every": every, "learning_starts": starts})
                    assert rounds
                except UsageError:
                    assert not rounds


def test_the_presets_are_found_also_that_of_an_environment_with_an_option() -> None:
    planned = planning.plan("sac", "Pendulum-v1", {})
    assert (planned.config.lr, planned.config.timesteps) == (1e-3, 20_000)
    pytest.importorskip("Box2D")
    for method, timesteps in (("sac", 500_000), ("td3", 300_000)):
        planned = planning.plan(method, "LunarLander-v3", {"preset": "LunarLanderContinuous"})
        assert planned.config.timesteps == timesteps
        assert planned.task.config.env_kwarg == {"continuous": True}


# --- it learns, and keeps the contract ----------------------------------------------------------------------


def test_it_finds_the_action_for_what_it_sees() -> None:
    agent = agent_for("Target", timesteps=600, learning_starts=100, hidden="32", lr=1e-2, batch_size=64, tau=0.05)
    while agent.count < agent.budget:
        agent.step()
    seen = np.array([[-0.5], [0.0], [0.5], [1.0], [1.8]], np.float32)
    actions, _ = agent.act(seen, deterministic=True)
    np.testing.assert_allclose(actions, 3 * seen, atol=1.0)
    assert agent.alpha.item() < 1


SMALL = {"hidden": "8", "batch_size": 8, "learning_starts": 10, "timesteps": 1000, "buffer_size": 100}


@pytest.mark.parametrize("method", ["sac", "td3", "ddpg"])
def test_it_keeps_the_contract(method: str) -> None:
    check_algorithm(
        method, "Pendulum-v1", **SMALL, steps=15, num_envs=2, max_episode_steps=8, normalize_observations=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sac", "td3"])
def test_a_resumed_run_is_the_same_in_a_new_process(method: str, tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | {"timesteps": 120}).items()]
    check_resume_in_new_process(
        method, "Pendulum-v1", budget=120, stop_after=70, options=[*options, "--eval-episodes=1"], folder=tmp_path
    )
