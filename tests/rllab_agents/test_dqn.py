from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.dqn import DQN, DQNConfig

from rllab import experiment, planning
from rllab.agent import crossings
from rllab.errors import UsageError
from rllab.parts.replay import Batch


class Clock(gymnasium.Env):
    """Shows how many steps the episode has had; `end` says after how many it terminates."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def __init__(self, end: int = 100) -> None:
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.at += 1
        return self.look(), float(action), self.at == self.end, False, {}

    def look(self):
        return np.array([self.at], np.float32)


class FromFive(Clock):
    action_space = spaces.Discrete(2, start=5)


class Number(Clock):
    observation_space = spaces.Box(0, 100, (), np.float32)

    def look(self):
        return np.float32(self.at)


class Composed(Clock):
    observation_space = spaces.Dict(at=spaces.Discrete(100))

    def look(self):
        return {"at": self.at}


class Corridor(gymnasium.Env):
    """Five cells in a row; the last one pays 1 and ends the episode."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(4))
        return self.at, {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return self.at, float(self.at == 4), self.at == 4, False, {}


KINDS = (Clock, FromFive, Number, Composed, Corridor)
ENVIRONMENTS = {kind.__name__: kind for kind in KINDS}


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    for name, kind in ENVIRONMENTS.items():
        gymnasium.register(f"dqn-test/{name}-v0", kind)
    yield
    for name in ENVIRONMENTS:
        del gymnasium.registry[f"dqn-test/{name}-v0"]


MADE: list[DQN] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "Clock", **options: Any) -> DQN:
    """Return an agent that is set up; it learns from the first step on unless told otherwise."""
    values = {"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8", **options}
    agent, _ = experiment.build(planning.plan("dqn", f"dqn-test/{environment}-v0", values))
    agent.setup()
    assert isinstance(agent, DQN)
    MADE.append(agent)
    return agent


# --- the loss, by hand --------------------------------------------------------------------------------------


def by_hand(**options: Any) -> DQN:
    """Return an agent with Q(s) = (s, 2 s) and Q_target(s) = (3 s, s)."""
    agent = agent_for(hidden="none", gamma=0.5, batch_size=2, **options)
    with torch.no_grad():
        for network, slopes in ((agent.q, [[1.0], [2.0]]), (agent.target, [[3.0], [1.0]])):
            network[0].weight.copy_(torch.tensor(slopes))
            network[0].bias.zero_()
    return agent


def loss_of(agent: DQN, transitions: Batch) -> torch.Tensor:
    """Return the loss of a gradient step, before it is taken."""
    return agent.descend(transitions, agent.targets(transitions, agent.next_q(transitions)), 0.25)


def batch(terminated: float = 0.0) -> Batch:
    """Return one transition twice: from 1 by action 0, where Q is 1, with reward 1 to 2."""
    return Batch(
        observations=torch.ones(2, 1),
        actions=torch.zeros(2, dtype=torch.int64),
        rewards=torch.ones(2),
        next_observations=torch.full((2, 1), 2.0),
        terminated=torch.full((2,), terminated),
    )


def test_the_target_is_the_reward_and_the_discounted_best_value_of_the_target_network() -> None:
    """Q_target(2) = (6, 2), so y = 1 + 0.5 * 6 = 4 and the error is 3."""
    assert loss_of(by_hand(loss="squared"), batch()).item() == 9.0
    assert loss_of(by_hand(loss="huber"), batch()).item() == 3.0 - 0.5


def test_with_double_the_online_network_chooses_and_the_target_network_rates() -> None:
    """Q(2) = (2, 4) chooses action 1, which Q_target rates 2, so y = 1 + 0.5 * 2 = 2 and the error is 1."""
    assert loss_of(by_hand(double=True, loss="squared"), batch()).item() == 1.0
    assert loss_of(by_hand(double=True, loss="huber"), batch()).item() == 0.5


@pytest.mark.parametrize("double", [False, True])
def test_a_terminal_state_has_no_value(double: bool) -> None:
    """y = 1, which is Q(1) for action 0 already."""
    assert loss_of(by_hand(double=double, loss="squared"), batch(terminated=1.0)).item() == 0.0


def test_a_small_error_is_squared_and_halved_by_huber() -> None:
    changed = batch(terminated=1.0)._replace(rewards=torch.tensor([1.5, 0.5]))
    assert loss_of(by_hand(loss="huber"), changed).item() == 0.5 * 0.5**2
    assert loss_of(by_hand(loss="squared"), changed).item() == 0.5**2


def test_the_loss_is_a_mean_over_the_batch() -> None:
    changed = batch()._replace(terminated=torch.tensor([0.0, 1.0]))
    assert loss_of(by_hand(loss="squared"), changed).item() == 9.0 / 2


def test_the_gradient_goes_into_the_online_value_of_the_action_taken_alone() -> None:
    """The error is -3 and the mean squared, so d loss / d Q(1, 0) = 2 * -3, times the input 1, and a quarter of it."""
    agent = by_hand(loss="squared", double=True, optimizer="sgd", max_grad_norm=0)
    loss_of(agent, batch()._replace(rewards=torch.full((2,), 3.0)))
    assert agent.q[0].weight.tolist() == [[1.0 + 1.5], [2.0]]
    assert agent.q[0].bias.tolist() == [1.5, 0.0]
    assert agent.target[0].weight.tolist() == [[3.0], [1.0]]
    assert agent.target[0].bias.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_a_gradient_step_is_the_one_that_autograd_takes(activation: str, double: bool, loss: str) -> None:
    options = {"activation": activation, "double": double, "optimizer": "sgd", "max_grad_norm": 0}
    agent = agent_for(loss=loss, batch_size=16, gamma=0.5, learning_starts=99, **options)
    for _ in range(50):
        agent.step()
    drawn = agent.replay.sample(16, np.random.default_rng(0))
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter.add_(0.1)
        next_q = agent.target(drawn.next_observations)
        best = (agent.q(drawn.next_observations) if double else next_q).argmax(1)
        y = drawn.rewards + 0.5 * (1 - drawn.terminated) * next_q[torch.arange(16), best]
    theirs = {"huber": torch.nn.functional.smooth_l1_loss, "squared": torch.nn.functional.mse_loss}[loss]
    expected = theirs(agent.q(drawn.observations)[torch.arange(16), drawn.actions], y)
    gradients = torch.autograd.grad(expected, list(agent.q.parameters()))
    moved = [p.detach() - 0.25 * g for p, g in zip(agent.q.parameters(), gradients, strict=True)]
    torch.testing.assert_close(loss_of(agent, drawn), expected.detach())
    for parameter, value in zip(agent.q.parameters(), moved, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


@pytest.mark.parametrize("rows", [2, 1024, 2500])
def test_next_values_are_the_target_networks_however_many_rows(rows: int) -> None:
    agent = agent_for()
    drawn = batch()._replace(next_observations=torch.linspace(0, 1, rows)[:, None])
    torch.testing.assert_close(agent.next_q(drawn), agent.target(drawn.next_observations))


@pytest.mark.parametrize("part", ["rewards", "terminated"])
def test_a_column_instead_of_a_vector_is_caught_before_it_broadcasts(part: str) -> None:
    wrong = batch()._replace(**{part: torch.ones(2, 1)})
    with pytest.raises(AssertionError):
        loss_of(by_hand(), wrong)


# --- what goes into the buffer ------------------------------------------------------------------------------


def stored(agent: DQN, steps: int) -> dict[str, list[float]]:
    for _ in range(steps):
        agent.step()
    state = agent.replay.state_dict()
    return {name: state[name].reshape(-1).tolist() for name in ("observations", "next_observations", "terminated")}


def test_a_truncated_episode_keeps_its_final_observation_and_bootstraps() -> None:
    assert stored(agent_for(max_episode_steps=3), 7) == {
        "observations": [0, 1, 2, 0, 1, 2, 0],
        "next_observations": [1, 2, 3, 1, 2, 3, 1],
        "terminated": [0, 0, 0, 0, 0, 0, 0],
    }


def test_a_terminated_episode_is_marked() -> None:
    assert stored(agent_for(env_kwarg="end=3"), 7) == {
        "observations": [0, 1, 2, 0, 1, 2, 0],
        "next_observations": [1, 2, 3, 1, 2, 3, 1],
        "terminated": [0, 0, 1, 0, 0, 1, 0],
    }


def test_an_episode_that_ends_both_ways_at_once_has_terminated() -> None:
    assert stored(agent_for(env_kwarg="end=3", max_episode_steps=3), 3)["terminated"] == [0, 0, 1]


def test_every_row_of_every_environment_is_a_real_step() -> None:
    agent = agent_for(num_envs=3, max_episode_steps=2)
    assert stored(agent, 3)["next_observations"] == [1, 1, 1, 2, 2, 2, 1, 1, 1]
    assert agent.count == 9


def test_an_episodes_return_and_length_are_reported_once_it_has_ended() -> None:
    agent = agent_for(max_episode_steps=4, learning_starts=99)
    metrics = [agent.step() for _ in range(8)]
    actions = agent.replay.state_dict()["actions"]
    assert [bool(row) for row in metrics] == [False, False, False, True] * 2
    assert metrics[3] == {"train/return": actions[:4].sum(), "train/length": 4}
    assert metrics[7] == {"train/return": actions[4:].sum(), "train/length": 4}


# --- the target network -------------------------------------------------------------------------------------


def same(agent: DQN) -> bool:
    return all(torch.equal(a, b) for a, b in zip(agent.q.parameters(), agent.target.parameters(), strict=True))


def test_the_target_equals_the_online_network_at_the_start_and_learning_does_not_move_it() -> None:
    agent = agent_for(target_every=1000)
    assert same(agent)
    before = [parameter.clone() for parameter in agent.target.parameters()]
    for _ in range(20):
        agent.step()
    assert not same(agent)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.target.parameters(), strict=True))


def test_an_update_copies_all_of_it_or_moves_a_part_of_the_way() -> None:
    agent = by_hand(tau=0.25)
    agent.update_target()
    assert agent.target[0].weight.flatten().tolist() == [3 + 0.25 * (1 - 3), 1 + 0.25 * (2 - 1)]
    agent = by_hand()
    agent.update_target()
    assert same(agent)


@pytest.mark.parametrize("num_envs", [1, 8])
def test_a_soft_update_goes_as_far_for_any_number_of_environments(num_envs: int) -> None:
    """In 24 steps 12 updates are due, so of the way from 3 to 1 and from 1 to 2 there is left 0.75 ** 12."""
    agent = by_hand(num_envs=num_envs, tau=0.25, target_every=2, learning_starts=99)
    while agent.count < 24:
        agent.step()
    left = 0.75**12
    assert agent.target[0].weight.flatten().tolist() == pytest.approx([1 + 2 * left, 2 - left])


@pytest.mark.parametrize("num_envs", [1, 3, 8, 16])
def test_the_interval_of_the_target_is_in_environment_steps(num_envs: int) -> None:
    agent = agent_for(num_envs=num_envs, timesteps=240, learning_starts=239, target_every=10)
    updates: list[int] = []
    agent.update_target = lambda n: updates.extend([agent.count] * n)  # type: ignore[method-assign]
    while agent.count < 240:
        agent.step()
    # one at the first step at which each multiple of 10 is reached or passed
    assert updates == [-(-multiple // num_envs) * num_envs for multiple in range(10, 241, 10)]


# --- how often it learns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_envs", "every", "passed"),
    [
        (1, 1, [1, 2, 3, 4, 5]),
        (1, 4, [4, 8, 12]),
        (3, 4, [6, 9, 12, 18]),
        (8, 4, [8, 8, 16, 16]),
        (3, 0, []),
    ],
)
def test_crossings_by_hand(num_envs: int, every: int, passed: list[int]) -> None:
    found: list[int] = []
    for before in range(0, 100, num_envs):
        found += [before + num_envs] * crossings(before, before + num_envs, every)
    assert found[: len(passed)] == passed
    assert len(found) == (found[-1] // every if every else 0)


def watched(agent: DQN) -> tuple[list[Batch], list[float]]:
    """Return lists that the batches and the losses of the agent's gradient steps will go to."""
    batches: list[Batch] = []
    losses: list[float] = []
    descend = agent.descend

    def watching(drawn: Batch, *rest: Any) -> torch.Tensor:
        value = descend(drawn, *rest)
        batches.append(drawn)
        losses.append(float(value))
        return value

    agent.descend = watching  # type: ignore[method-assign]
    return batches, losses


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_the_updates_for_each_step_are_the_same_for_any_number_of_environments(num_envs: int) -> None:
    """240 steps, learning after 24, one round of 2 for every 4 steps: (240 - 24) / 4 * 2 = 108."""
    options = {"timesteps": 240, "learning_starts": 24, "train_every": 4, "gradient_steps": 2, "batch_size": 16}
    agent = agent_for(num_envs=num_envs, **options)
    batches, _ = watched(agent)
    while agent.count < 240:
        before = len(batches)
        agent.step()
        assert len(batches) == before or agent.count > 24
    assert len(batches) == 108
    rows = {tuple(drawn.observations.flatten().tolist() + drawn.actions.tolist()) for drawn in batches}
    assert len(rows) == 108  # a batch of its own for each


def test_the_loss_of_a_round_is_the_mean_of_its_gradient_steps() -> None:
    agent = agent_for(gradient_steps=3, batch_size=2)
    _, losses = watched(agent)
    metrics = agent.step()
    assert len(losses) == 3
    assert float(metrics["train/loss"]) == pytest.approx(sum(losses) / 3)
    assert not torch.is_tensor(metrics["train/loss"]) or not metrics["train/loss"].requires_grad


@pytest.mark.parametrize(("count", "lr"), [(0, 0.1), (50, 0.05), (100, 0.0)])
def test_the_step_size_at_start_middle_and_end(count: int, lr: float) -> None:
    agent = agent_for(lr=0.1, schedule="linear", optimizer="sgd", batch_size=2)
    agent.step()
    agent.count = count
    before = [parameter.clone() for parameter in agent.q.parameters()]
    assert agent.learn(1)["train/lr"] == pytest.approx(lr)
    moved = any(not torch.equal(a, b) for a, b in zip(before, agent.q.parameters(), strict=True))
    assert moved is (lr > 0)


# --- acting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "epsilon"), [(0, 1.0), (25, 0.55), (50, 0.1), (75, 0.1), (100, 0.1)])
def test_epsilon_at_start_middle_and_end(count: int, epsilon: float) -> None:
    agent = agent_for(exploration_fraction=0.5, final_epsilon=0.1)
    agent.count = count
    assert agent.epsilon == pytest.approx(epsilon)


@pytest.mark.parametrize(("count", "share"), [(0, 0.5), (50, 0.05), (100, 0.05)])
def test_exploring_takes_the_other_action_as_often_as_epsilon_says(count: int, share: float) -> None:
    """Of two actions a random one is the other half the time, so with epsilon 0.1 in one of 20."""
    agent = by_hand(exploration_fraction=0.5, final_epsilon=0.1)  # Q(1) = (1, 2): the best action is 1
    agent.count = count
    actions = agent.explore(np.ones((20_000, 1), np.float32))
    assert np.mean(actions == 0) == pytest.approx(share, abs=0.015)


def test_exploring_without_epsilon_is_greedy() -> None:
    agent = by_hand(exploration_fraction=0, final_epsilon=0)
    assert agent.explore(np.ones((5, 1), np.float32)).tolist() == [1] * 5


def test_acting_is_greedy_or_now_and_then_random_as_at_the_end_of_training() -> None:
    agent = by_hand(final_epsilon=0.2)
    observations = np.ones((20_000, 1), np.float32)
    assert agent.act(observations, deterministic=True)[0].tolist() == [1] * 20_000
    assert np.mean(agent.act(observations, deterministic=False)[0] == 0) == pytest.approx(0.1, abs=0.015)


def test_actions_that_start_at_five_are_stored_from_zero_and_played_from_five() -> None:
    agent = agent_for("FromFive", final_epsilon=0.5)
    for _ in range(50):
        agent.step()  # the environment refuses any action but 5 and 6
    assert set(agent.replay.state_dict()["actions"].tolist()) == {0, 1}
    for deterministic in (True, False):
        assert set(agent.act(np.ones((50, 1), np.float32), deterministic=deterministic)[0]) <= {5, 6}


def test_observations_may_be_numbers() -> None:
    agent = agent_for("Number", normalize_observations=True, num_envs=2)
    assert agent.inputs(torch.tensor([1.0, 2.0])).shape == (2, 1)
    for _ in range(5):
        assert "train/loss" in agent.step()


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("Pendulum-v1", r"dqn cannot be trained on Pendulum-v1: it takes Discrete actions, not Box"),
        ("dqn-test/Composed-v0", "it takes Box, Discrete, MultiDiscrete and MultiBinary observations, not Dict"),
    ],
)
def test_spaces_it_cannot_handle_are_refused_before_anything_starts(target: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        planning.plan("dqn", target, {"preset": "none"})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_starts": 100, "timesteps": 100}, "--learning-starts 100 is not below --timesteps 100: no update"),
        ({"timesteps": 500}, "--learning-starts 1000 is not below --timesteps 500"),
        ({"timesteps": 1500, "train_every": 2000}, "--train-every 2000 has no multiple above --learning-starts 1000"),
        ({"gamma": 1.1}, "--gamma 1.1: should be less than or equal to 1"),
        ({"tau": 0}, "--tau 0: should be greater than 0"),
        ({"batch_size": 0}, "--batch-size 0: should be greater than 0"),
        ({"num_envs": 0}, "--num-envs 0"),
        ({"final_epsilon": -0.1}, "--final-epsilon -0.1"),
        ({"hidden": "64,0"}, "--hidden 0: should be greater than 0"),
        ({"activation": "rely"}, "--activation rely: should be 'relu'"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DQNConfig.parse(values)


def test_exactly_the_configurations_that_never_learn_are_refused() -> None:
    for timesteps in range(1, 8):
        for every in range(1, 8):
            for starts in range(8):
                rounds = [n for n in range(1, timesteps + 1) if n > starts and crossings(n - 1, n, every)]
                try:
                    DQNConfig.parse({"timesteps": timesteps, "train_every": every, "learning_starts": starts})
                    assert rounds
                except UsageError:
                    assert not rounds


# --- it learns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "double"), [(0, False), (1, True)])
def test_it_finds_the_values_of_a_corridor(seed: int, double: bool) -> None:
    """One-hot observations and no hidden layer make it a table, which value iteration fills by hand.

    With a discount of 0.9 the best way from cell s takes 4 - s steps and is worth 0.9 ** (3 - s); a step to the
    left loses two steps, in cell 0 one.
    """
    right = np.array([0.729, 0.81, 0.9, 1.0])
    left = 0.9 * np.array([0.729, 0.729, 0.81, 0.9])
    agent = agent_for(
        "Corridor",
        seed=seed,
        double=double,
        hidden="none",
        timesteps=1500,
        gamma=0.9,
        lr=0.05,
        schedule="linear",
        batch_size=32,
        target_every=20,
        exploration_fraction=1.0,
        final_epsilon=0.5,
        max_episode_steps=20,
    )
    while agent.count < agent.budget:
        agent.step()
    with torch.no_grad():
        q = agent.q(agent.inputs(torch.arange(4))).numpy()
    np.testing.assert_allclose(q, np.stack([left, right], 1), atol=0.06)
    assert agent.act(np.arange(4), deterministic=True)[0].tolist() == [1, 1, 1, 1]
    assert agent.evaluate(20)["eval/return"] == 1.0
