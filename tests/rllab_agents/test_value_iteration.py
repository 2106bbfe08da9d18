from collections.abc import Iterator
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from rllab_agents.value_iteration import Dynamics, ValueIteration

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.testing import check_algorithm

STATES, ACTIONS = 4, 2


class Random(gymnasium.Env):
    """A random table of transitions, whose states and actions are not counted from 0; a third of them terminate."""

    observation_space = spaces.Discrete(STATES, start=3)
    action_space = spaces.Discrete(ACTIONS, start=-1)

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.P: Any = {
            s: {
                a: [
                    (float(p), int(rng.integers(3, 3 + STATES)), float(rng.normal()), bool(rng.random() < 0.3))
                    for p in rng.dirichlet(np.ones(3))
                ]
                for a in range(-1, -1 + ACTIONS)
            }
            for s in range(3, 3 + STATES)
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 3
        return self.at, {}

    def step(self, action):
        outcomes = self.P[self.at][int(action)]
        _, self.at, reward, ended = outcomes[self.np_random.choice(3, p=[outcome[0] for outcome in outcomes])]
        return self.at, reward, ended, False, {}


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    gymnasium.register("vi-test/Random-v0", Random)
    yield
    del gymnasium.registry["vi-test/Random-v0"]


def solved(environment: str, **options: Any) -> ValueIteration:
    agent, _ = experiment.build(
        planning.plan("value-iteration", environment, {"preset": "none", "device": "cpu", **options})
    )
    agent.setup()
    while agent.count < agent.budget and not agent.converged:
        agent.step()
    agent.close()
    assert isinstance(agent, ValueIteration)
    return agent


def test_the_values_are_those_of_the_best_of_all_policies() -> None:
    """Every policy is evaluated by solving its linear equations; the best one is best in every state."""
    agent, table = solved("vi-test/Random-v0", gamma=0.8, tolerance=1e-12), Random().P
    best = np.full(STATES, -np.inf)
    for policy in product(range(ACTIONS), repeat=STATES):
        matrix, rewards = np.eye(STATES), np.zeros(STATES)
        for s, a in enumerate(policy):
            for probability, s_next, reward, ended in table[s + 3][a - 1]:
                rewards[s] += probability * reward
                matrix[s, s_next - 3] -= 0.0 if ended else 0.8 * probability
        best = np.maximum(best, np.linalg.solve(matrix, rewards))
    np.testing.assert_allclose(agent.table.q.max(1), best, atol=1e-10)
    actions, _ = agent.act(np.array([3, 4, 5, 6]), deterministic=True)
    assert set(actions.tolist()) <= {-1, 0}


def test_the_values_of_a_corridor_are_powers_of_the_discount() -> None:
    values = solved("Corridor-v0", gamma=0.9, env_kwarg="length=6").table.q.max(1)
    assert values.tolist() == pytest.approx([0.9**4, 0.9**3, 0.9**2, 0.9, 1, 0])


def test_the_values_of_russell_and_norvigs_world_are_those_in_the_book() -> None:
    agent = solved("GridWorld-v0", gamma=1, env_kwarg="map=russell-norvig,slip=0.2")
    values = agent.table.q.max(1).reshape(3, 4).round(3)
    assert values[0, :3].tolist() == [0.812, 0.868, 0.918]
    assert values[1, [0, 2]].tolist() == [0.762, 0.660]
    assert values[2].tolist() == [0.705, 0.655, 0.611, 0.388]


def test_of_the_episodes_on_the_ice_14_of_17_reach_the_goal_at_best() -> None:
    assert solved("FrozenLake-v1", gamma=1).table.q[0].max() == pytest.approx(14 / 17)


def test_one_sweep_looks_one_step_ahead() -> None:
    """On the cliff every step costs 1 and a fall 100; the goal is worth nothing."""
    agent = solved("CliffWalking-v1", gamma=1, sweeps=2)
    assert agent.count == 2
    assert agent.converged is None
    assert agent.table.q[36].tolist() == [-2, -101, -2, -2]  # up, right into the cliff, down, left
    assert agent.table.q[35].tolist() == [-2, -2, -1, -2]  # above the goal


def test_it_converges_when_no_value_changes_any_more_and_says_so() -> None:
    agent = solved("Corridor-v0", gamma=0.9, tolerance=1e-6, env_kwarg="length=6")
    assert agent.count == 6  # the reward reaches one cell further in a sweep; the sixth changes nothing
    assert agent.converged == "no value changed by more than 1e-06 in the last sweep"


def test_no_environment_is_stepped() -> None:
    assert solved("Corridor-v0").unit == "sweeps"
    assert "timesteps" not in ValueIteration.Config.model_fields


def test_the_policy_is_measured_by_playing() -> None:
    measured = solved("CliffWalking-v1", gamma=1, max_episode_steps=100).evaluate(3)
    assert measured["eval/return"] == -13
    assert measured["eval/length"] == 13


def test_several_outcomes_that_lead_to_the_same_add_up() -> None:
    table = {
        0: {0: [(0.5, 1, 2.0, False), (0.25, 1, 2.0, False), (0.25, 1, -6.0, True)]},
        1: {0: [(1.0, 1, 0.0, True)]},
    }
    dynamics = Dynamics.of(table, spaces.Discrete(2), spaces.Discrete(1))
    assert dynamics.q(np.array([0.0, 10.0]), 0.5, 1).tolist() == [[0.75 * (2 + 5) + 0.25 * -6], [0]]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("CartPole-v1", "it takes Discrete observations and actions, not Box"),
        ("Pendulum-v1", "it takes Discrete observations and actions, not Box"),
        ("Bandit-v0", "it has no table P[s][a] of transitions; try q-learning"),
    ],
)
def test_an_environment_without_a_table_is_refused(environment: str, reason: str) -> None:
    task = EnvironmentTask.open(environment, EnvironmentConfig(), seed=0)
    assert str(ValueIteration.refusal(ValueIteration.Config.parse({}), task)).startswith(reason)


def test_it_keeps_the_contract() -> None:
    check_algorithm("value-iteration", "FrozenLake-v1", steps=5, eval_episodes=3)
