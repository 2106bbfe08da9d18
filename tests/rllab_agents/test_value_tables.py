"""Q-learning and SARSA: their updates by hand, and the values of value iteration as what they have to reach."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from rllab_agents.q_learning import QLearning
from rllab_agents.tables import Cells, TableAgent, TableConfig, any_best
from rllab_agents.value_iteration import Dynamics

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError
from rllab.testing import check_algorithm


class Walk(gymnasium.Env):
    """Four cells, of which the last one ends the episode; action 1 goes right, 0 stays. Each step pays 1."""

    def __init__(self, first_state: int = 0, first_action: int = 0) -> None:
        self.observation_space: Any = spaces.Discrete(4, start=first_state)
        self.action_space: Any = spaces.Discrete(2, start=first_action)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.at + int(self.observation_space.start), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at += int(action - self.action_space.start)
        return self.at + int(self.observation_space.start), 1.0, self.at == 3, False, {}


@pytest.fixture(autouse=True, scope="module")
def walk() -> Iterator[None]:
    gymnasium.register("table-test/Walk-v0", Walk)
    yield
    del gymnasium.registry["table-test/Walk-v0"]


MADE: list[TableAgent] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(method: str, environment: str = "table-test/Walk-v0", **options: Any) -> TableAgent:
    agent, _ = experiment.build(planning.plan(method, environment, {"preset": "none", "device": "cpu", **options}))
    agent.setup()
    assert isinstance(agent, TableAgent)
    MADE.append(agent)
    return agent


def trained(method: str, environment: str, **options: Any) -> TableAgent:
    agent = agent_for(method, environment, **options)
    while agent.count < agent.budget:
        agent.step()
    return agent


# --- the update, by hand ------------------------------------------------------------------------------------


def by_hand(method: str, **options: Any) -> TableAgent:
    """Return an agent that goes right in state 0, where Q(0) = (0, 1), Q(1) = (2, 4) and Q(3) = (100, 100)."""
    greedy = {"exploration_fraction": 0, "final_epsilon": 0}
    agent = agent_for(method, **{"lr": 0.5, "gamma": 0.5, "timesteps": 100, **greedy, **options})
    agent.table.q[:] = [[0, 1], [2, 4], [0, 1], [100, 100]]
    agent.actions = np.ones(agent.envs.num_envs, int)  # SARSA's choice
    return agent


def test_q_learning_takes_the_best_next_value() -> None:
    """The target is 1 + 0.5 * 4 = 3, and half of the way from 1 to it is 2."""
    agent = by_hand("q-learning")
    _, errors = agent.update()
    assert errors == [2.0]
    assert agent.table.q.tolist() == [[0, 2], [2, 4], [0, 1], [100, 100]]
    assert agent.table.n.tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert agent.count == 1


def test_sarsa_takes_the_value_of_the_action_that_comes_next() -> None:
    """It chose 0 in state 1: the target is 1 + 0.5 * 2 = 2, and half of the way from 1 to it is 1.5."""
    agent = by_hand("sarsa")
    agent.explore = lambda states: np.zeros(len(states), int)  # type: ignore[method-assign]
    _, errors = agent.update()
    assert errors == [1.0]
    assert agent.table.q[0].tolist() == [0, 1.5]
    assert (agent.states.tolist(), agent.actions.tolist()) == ([1], [0])


def test_expected_sarsa_takes_the_mean_over_the_next_actions() -> None:
    """With epsilon 0.5 the policy is worth 0.5 * 3 + 0.5 * 4 = 3.5: the target is 1 + 0.5 * 3.5 = 2.75."""
    agent = by_hand("sarsa", expected=True, final_epsilon=0.5)
    _, errors = agent.update()
    assert errors == [1.75]


@pytest.mark.parametrize("method", ["q-learning", "sarsa"])
def test_a_terminal_state_has_no_value(method: str) -> None:
    """From state 2 one step leads to the end: the target is 1, which Q(2, 1) is already."""
    agent = by_hand(method)
    for _ in range(2):
        agent.update()
    assert agent.states.tolist() == [2]
    _, errors = agent.update()
    assert errors == [0.0]
    assert agent.states.tolist() == [0]


@pytest.mark.parametrize("method", ["q-learning", "sarsa"])
def test_truncation_bootstraps_from_the_final_observation(method: str) -> None:
    """Cut off after a step, in state 1, which is worth 4: the target is 3, wherever the next episode begins."""
    agent = by_hand(method, max_episode_steps=1)
    seen: list[list[int]] = []
    explore = agent.explore
    agent.explore = lambda states: (seen.append(states.tolist()), explore(states))[1]  # type: ignore[method-assign]
    _, errors = agent.update()
    assert errors == [2.0]
    assert agent.states.tolist() == [0]
    # Q-learning acts in 0; SARSA chooses what follows the final state, and what begins the next episode
    assert seen == ([[0]] if method == "q-learning" else [[1], [0]])


def test_sarsa_begins_an_episode_with_an_action_chosen_there() -> None:
    agent = by_hand("sarsa", max_episode_steps=1)
    agent.explore = lambda states: np.where(states == 1, 0, 1)  # type: ignore[method-assign]
    agent.update()
    assert agent.actions.tolist() == [1]


@pytest.mark.parametrize("method", ["q-learning", "sarsa"])
def test_several_environments_learn_into_one_table_and_every_step_counts(method: str) -> None:
    """Both go from 0 to 1: the second one moves what the first one left, from 2 half of the way to 3."""
    agent = by_hand(method, num_envs=2)
    agent.update()
    assert agent.table.q[0].tolist() == [0, 2.5]
    assert agent.count == 2


@pytest.mark.parametrize("method", ["q-learning", "sarsa"])
def test_spaces_that_do_not_start_at_0(method: str) -> None:
    agent = by_hand(method, env_kwarg="first_state=7,first_action=-3")
    for _ in range(6):
        agent.update()
    assert agent.table.n.tolist() == [[0, 2], [0, 2], [0, 2], [0, 0]]
    assert agent.act(np.array([7, 8, 9]), deterministic=True)[0].tolist() == [-2, -2, -2]


def test_the_budget_is_not_exceeded() -> None:
    agent = trained("q-learning", "table-test/Walk-v0", timesteps=250)
    assert agent.count == 250


# --- exploring ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "epsilon", "alpha"), [(0, 1.0, 0.4), (250, 0.6, 0.3), (500, 0.2, 0.2), (1000, 0.2, 0)]
)
def test_epsilon_and_the_step_size_at_start_middle_and_end(count: int, epsilon: float, alpha: float) -> None:
    options = {"exploration_fraction": 0.5, "final_epsilon": 0.2, "lr": 0.4, "schedule": "linear"}
    agent = agent_for("q-learning", timesteps=1000, **options)
    agent.count = count
    assert agent.epsilon == pytest.approx(epsilon)
    assert agent.alpha == pytest.approx(alpha)


def test_an_epsilon_of_a_half_explores_half_of_the_time() -> None:
    agent = by_hand("q-learning", final_epsilon=0.5)
    chosen = agent.explore(np.ones(4000, int))
    assert abs(chosen.mean() - 0.75) < 0.03  # of the random half, half is the best action


def test_of_several_best_actions_any_is_taken() -> None:
    values = np.array([1.0, 3.0, 0.0, 3.0])
    assert [any_best(values, draw) for draw in (0, 0.49, 0.5, 0.99)] == [1, 1, 3, 3]


def test_an_action_that_is_not_deterministic_explores_as_at_trainings_end() -> None:
    agent = by_hand("q-learning", final_epsilon=0.5)
    chosen, _ = agent.act(np.ones(4000, int), deterministic=False)
    assert abs(chosen.mean() - 0.75) < 0.03
    assert agent.act(np.ones(10, int), deterministic=True)[0].tolist() == [1] * 10


# --- observations as states ---------------------------------------------------------------------------------


def test_a_box_is_cut_into_intervals_of_equal_width() -> None:
    """Two numbers: [0, 3) in three intervals, [-1, 1) in two; what lies outside belongs to the outermost."""
    space = spaces.Box(np.array([0, -1], np.float32), np.array([3, 1], np.float32))
    cells = Cells(space, TableConfig(bins=(3, 2)))
    places = np.array([[0, -1], [0.99, -0.01], [1, 0], [2.5, 0.5], [3, 1], [-5, 9], [99, -9]], np.float32)
    assert cells.n == 6
    assert cells.states(places).tolist() == [0, 0, 3, 5, 5, 1, 4]


@pytest.mark.parametrize(
    ("space", "batch", "states"),
    [
        (spaces.Discrete(5, start=-2), np.array([-2, 0, 2]), [0, 2, 4]),
        (spaces.MultiDiscrete([2, 3]), np.array([[0, 0], [0, 2], [1, 0], [1, 2]]), [0, 2, 3, 5]),
        (spaces.MultiDiscrete([2, 3], start=[1, 1]), np.array([[1, 1], [2, 3]]), [0, 5]),
        (spaces.MultiBinary(3), np.array([[0, 0, 1], [1, 1, 0]], np.int8), [1, 6]),
        (spaces.Tuple([spaces.Discrete(4), spaces.Discrete(2, start=1)]), (np.array([0, 3]), np.array([2, 1])), [1, 6]),
    ],
)
def test_discrete_observations_are_counted_through(space: Any, batch: Any, states: list[int]) -> None:
    assert Cells(space).states(batch).tolist() == states


def test_bounds_that_are_infinite_are_where_random_actions_lead() -> None:
    agent = agent_for("q-learning", "CartPole-v1", bins="4")
    low, high = agent.cells.low.numpy(), agent.cells.high.numpy()
    assert low[[0, 2]] == pytest.approx([-4.8, -0.418], abs=1e-3)
    assert (low[[1, 3]] < -1).all()
    assert (high[[1, 3]] > 1).all()
    assert np.isfinite([low, high]).all()
    assert agent.count == 0


def test_bounds_can_be_given() -> None:
    agent = agent_for("q-learning", "CartPole-v1", bins="1,1,6,12", low="-1,-2,-0.2,-3", high="1,2,0.2,3")
    assert agent.cells.low.tolist() == [-1, -2, -0.2, -3]
    assert agent.cells.high.tolist() == [1, 2, 0.2, 3]
    assert agent.cells.n == 72


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ("Pendulum-v1", {"bins": 5}, "it takes Discrete actions, not Box"),
        ("CartPole-v1", {}, "--bins 20"),
        ("CartPole-v1", {"bins": "3,4"}, "--bins has 2 values, and an observation 4"),
        ("CartPole-v1", {"bins": "3", "low": "0,1", "high": "1,2"}, "--low has 2 values, and an observation 4"),
        ("CartPole-v1", {"bins": "100"}, "2e\\+08 values"),
        ("FrozenLake-v1", {"bins": "4"}, "--bins is for Box observations"),
        ("CartPole-v1", {"bins": "3", "low": "0"}, "--low has 1 numbers and --high 0"),
        ("CartPole-v1", {"bins": "3", "low": "1", "high": "1"}, "--low is not below --high"),
        ("CartPole-v1", {"low": "0", "high": "1"}, "--bins 20"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(environment: str, options: dict[str, Any], said: str) -> None:
    task = EnvironmentTask.open(environment, EnvironmentConfig(), seed=0)
    with pytest.raises(UsageError, match=said):
        raise UsageError(QLearning.refusal(QLearning.Config.parse(options), task) or "it is not refused")


@pytest.mark.parametrize("bins", [None, "2", "20"])
def test_of_a_thousand_numbers_there_is_no_table_whatever_the_bins(bins: str | None) -> None:
    task = EnvironmentTask.open("CartPole-v1", EnvironmentConfig(), seed=0)
    task.observation_space = spaces.Box(0, 1, (1200,))
    config = QLearning.Config.parse({"bins": bins} if bins else {})
    assert QLearning.refusal(config, task) == "observations of 1200 numbers are too many for a table; take dqn"
    ignored = QLearning.Config.parse({"bins": "1," * 1198 + "20,20"})
    assert QLearning.refusal(ignored, task) is None


# --- what they reach ----------------------------------------------------------------------------------------


def optimal(environment: str, gamma: float, **options: Any) -> np.ndarray:
    agent, _ = experiment.build(
        planning.plan("value-iteration", environment, {"gamma": gamma, "device": "cpu", "preset": "none", **options})
    )
    agent.setup()
    while not agent.converged:
        agent.step()
    agent.close()
    values: np.ndarray = agent.table.q.max(1).copy()
    return values


@pytest.mark.parametrize(("environment", "steps"), [("GridWorld-v0", 12_000), ("Corridor-v0", 4_000)])
def test_q_learning_finds_the_optimal_values_by_random_actions(environment: str, steps: int) -> None:
    options = {"gamma": 0.9, "lr": 1, "final_epsilon": 1, "exploration_fraction": 0}
    agent = trained("q-learning", environment, timesteps=steps, **options)
    known = agent.table.n.all(1)
    assert known.sum() >= 7
    np.testing.assert_allclose(agent.table.q.max(1)[known], optimal(environment, 0.9)[known], atol=1e-6)


@pytest.mark.parametrize(
    ("environment", "of_env"), [("GridWorld-v0", "map=russell-norvig"), ("Corridor-v0", "length=6")]
)
@pytest.mark.parametrize("expected", [False, True])
def test_sarsa_finds_the_optimal_values_as_it_stops_exploring(environment: str, of_env: str, expected: bool) -> None:
    options = {"gamma": 0.9, "lr": 0.5, "final_epsilon": 0, "exploration_fraction": 0.8, "env_kwarg": of_env}
    agent = trained("sarsa", environment, timesteps=6_000, expected=expected, **options)
    best = optimal(environment, 0.9, env_kwarg=of_env)
    envs = agent.task.make(1, np.random.SeedSequence(0))
    envs.reset()
    state, terminated = int(envs.observations[0]), False
    while not terminated:  # along the way that it takes now
        assert agent.table.q[state].max() == pytest.approx(best[state], abs=1e-3)
        moved = envs.step(agent.act(envs.observations, deterministic=True)[0])
        state, terminated = int(moved.next_observations[0]), bool(moved.terminated[0])
    envs.close()


def test_q_learning_finds_the_values_of_a_slippery_corridor() -> None:
    options = {"gamma": 0.9, "lr": 0.5, "schedule": "linear", "env_kwarg": "length=5,slip=0.2"}
    agent = trained("q-learning", "Corridor-v0", timesteps=8_000, **options)
    best = optimal("Corridor-v0", 0.9, env_kwarg="length=5,slip=0.2")
    np.testing.assert_allclose(agent.table.q.max(1)[:4], best[:4], atol=0.05)


def test_q_learning_walks_along_the_cliff_and_sarsa_keeps_away_from_it() -> None:
    """Example 6.6 of Sutton & Barto: the way is 13 steps along the edge, and longer for who may slip by exploring."""
    options = {"gamma": 1, "lr": 0.5, "schedule": "linear", "exploration_fraction": 0, "max_episode_steps": 500}
    shared: dict[str, Any] = {"timesteps": 8_000, "eval_episodes": 1, **options}
    q_learning, sarsa = (trained(method, "CliffWalking-v1", **shared) for method in ("q-learning", "sarsa"))
    assert q_learning.evaluate()["eval/return"] == -13
    assert -20 < float(sarsa.evaluate()["eval/return"]) < -13
    fallen = [agent.table.n[25:35, 2].sum() for agent in (q_learning, sarsa)]  # downwards from the row above the cliff
    assert fallen[0] > 2 * fallen[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["q-learning", "sarsa"])
def test_the_policy_found_on_the_ice_is_nearly_optimal(method: str) -> None:
    """The exact value of the greedy policy, of which 14 / 17 of the episodes would reach the goal at best."""
    options = {"lr": 0.2, "schedule": "linear", "final_epsilon": 0.05}
    agent = trained(method, "FrozenLake-v1", timesteps=150_000, **options)
    env = agent.task.make_one()
    dynamics = Dynamics.of(env.unwrapped.P, env.observation_space, env.action_space)  # type: ignore[attr-defined,arg-type]
    env.close()
    values = np.zeros(16)
    for _ in range(2000):
        values = dynamics.q(values, 1.0, 4)[np.arange(16), agent.table.q.argmax(1)]
    assert values[0] > 0.7


# --- the contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "environment", "options"),
    [
        ("q-learning", "FrozenLake-v1", {}),
        ("sarsa", "FrozenLake-v1", {"expected": True}),
        ("sarsa", "CartPole-v1", {"bins": "4", "num_envs": 2}),
    ],
)
def test_they_keep_the_contract(method: str, environment: str, options: dict[str, Any]) -> None:
    check_algorithm(method, environment, steps=2, timesteps=900, eval_episodes=3, **options)
