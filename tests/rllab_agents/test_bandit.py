import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rllab_agents.bandit import Bandit, softmax, upper_bounds

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError
from rllab.testing import check_algorithm

RULES = ("epsilon-greedy", "ucb1", "gradient")
MADE: list[Bandit] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(**options: Any) -> Bandit:
    agent, _ = experiment.build(planning.plan("bandit", "Bandit-v0", {"preset": "none", "device": "cpu", **options}))
    agent.setup()
    assert isinstance(agent, Bandit)
    MADE.append(agent)
    return agent


def pulled(**options: Any) -> Bandit:
    agent = agent_for(**options)
    while agent.count < agent.budget:
        agent.step()
    return agent


# --- UCB1 ---------------------------------------------------------------------------------------------------


def test_the_upper_bounds_of_ucb1_by_hand() -> None:
    """After 12 pulls, ln 12 = 2.484907: 0.5 + sqrt(2 * 2.484907 / 10) = 1.204970, 0.4 + sqrt(2.484907) = 1.976359."""
    bounds = upper_bounds(np.array([0.5, 0.4]), np.array([10, 2]), math.sqrt(2))
    assert bounds.tolist() == pytest.approx([1.204970, 1.976359], abs=1e-6)


def test_an_arm_that_was_never_pulled_comes_first() -> None:
    bounds = upper_bounds(np.array([9.0, 0.0, 0.0]), np.array([5, 0, 0]), math.sqrt(2))
    assert bounds.tolist() == [-np.inf, np.inf, np.inf]
    agent = agent_for(rule="ucb1", env_kwarg="arms=4")
    arms = []
    for _ in range(4):
        arms.append(agent.choose(0.0, 0.3))
        agent.learn(arms[-1], float(-len(arms)))
    assert sorted(arms) == [0, 1, 2, 3]


def test_ucb1_pulls_the_arm_of_the_highest_bound() -> None:
    agent = agent_for(rule="ucb1", env_kwarg="arms=2")
    agent.table.q[:], agent.table.n[:] = [[0.5, 0.4]], [[10, 2]]
    assert agent.choose(0.0, 0.0) == 1
    agent = agent_for(rule="ucb1", env_kwarg="arms=2", confidence=0.1)
    agent.table.q[:], agent.table.n[:] = [[0.5, 0.4]], [[10, 2]]
    assert agent.choose(0.0, 0.0) == 0  # 0.5 + 0.1 * 0.498 against 0.4 + 0.1 * 1.115


# --- estimates ----------------------------------------------------------------------------------------------


def test_an_estimate_is_the_mean_of_what_the_arm_paid() -> None:
    agent = agent_for(env_kwarg="arms=2", initial=50.0)
    for reward in (1.0, 2.0, 6.0):
        agent.learn(1, reward)
    assert agent.table.q.tolist() == [[50, 3]]
    assert agent.table.n.tolist() == [[0, 3]]


def test_a_constant_step_size_weighs_the_last_rewards_most() -> None:
    """From 8: half of the way to 0 is 4, half of the way from there to 2 is 3."""
    agent = agent_for(env_kwarg="arms=2", initial=8.0, lr=0.5)
    for reward in (0.0, 2.0):
        agent.learn(0, reward)
    assert agent.table.q.tolist() == [[3, 8]]


def test_epsilon_greedy_explores_with_the_probability_epsilon() -> None:
    agent = agent_for(epsilon=0.2, env_kwarg="arms=4")
    agent.table.q[0, 2] = 1
    arms = [agent.choose(*pair) for pair in np.random.default_rng(0).random((4000, 2))]
    assert np.bincount(arms) / 4000 == pytest.approx([0.05, 0.05, 0.85, 0.05], abs=0.02)


# --- the gradient rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [-3.0, 0.0, 0.7])
def test_on_average_the_preferences_climb_the_expected_reward(baseline: float) -> None:
    """The mean update over the arms that may be pulled, against finite differences of sum_a pi(a) mean(a)."""
    means, preferences, alpha = np.array([0.3, -1.0, 2.0]), np.array([0.1, 0.8, -0.5]), 0.25
    agent = agent_for(rule="gradient", lr=alpha, env_kwarg="arms=3")
    update = np.zeros(3)
    for arm, probability in enumerate(softmax(preferences)):
        agent.table.q[0], agent.table.n[0], agent.mean_reward = preferences, 7, baseline
        agent.learn(arm, means[arm])
        update += probability * (agent.table.q[0] - preferences)
    around = [(preferences + step, preferences - step) for step in 1e-6 * np.eye(3)]
    slopes = [(softmax(up) @ means - softmax(down) @ means) / 2e-6 for up, down in around]
    np.testing.assert_allclose(update, alpha * np.array(slopes), atol=1e-8)


def test_the_baseline_is_the_mean_of_the_rewards_before() -> None:
    """The first reward is compared with itself; the third, 9, with the mean of 2 and 4."""
    agent = agent_for(rule="gradient", lr=0.1, env_kwarg="arms=2")
    agent.learn(0, 2.0)
    assert agent.table.q.tolist() == [[0, 0]]
    agent.learn(1, 4.0)
    before, shares = agent.table.q[0].copy(), softmax(agent.table.q[0])
    agent.learn(0, 9.0)
    np.testing.assert_allclose(agent.table.q[0], before + 0.1 * 6 * (np.array([1, 0]) - shares))
    assert agent.mean_reward == 5


def test_without_a_baseline_the_reward_itself_counts() -> None:
    agent = agent_for(rule="gradient", lr=0.1, baseline=False, env_kwarg="arms=2")
    agent.learn(0, 2.0)
    assert agent.table.q[0].tolist() == pytest.approx([0.1, -0.1])


def test_an_arm_is_pulled_with_its_probability() -> None:
    agent = agent_for(rule="gradient", env_kwarg="arms=3")
    agent.table.q[0] = np.log([0.2, 0.5, 0.3])
    arms = [agent.choose(*pair) for pair in np.random.default_rng(0).random((4000, 2))]
    assert np.bincount(arms) / 4000 == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
    assert agent.choose(0.0, 1.0 - 1e-17) == 2


# --- regret -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_the_regret_is_what_the_pulls_cost_and_far_less_than_that_of_random_ones(rule: str) -> None:
    for instance in range(3):
        agent = pulled(rule=rule, timesteps=500, env_kwarg=f"instance={instance}", seed=instance)
        lost = agent.known.best_mean - agent.known.means
        assert agent.regret == pytest.approx(agent.table.n[0] @ lost)
        assert agent.table.n.sum() == 500
        assert agent.regret < 0.6 * 500 * lost.mean()


def test_the_arms_that_tell_the_regret_drift_with_those_that_are_pulled() -> None:
    agent = pulled(timesteps=50, env_kwarg="drift=0.5,pulls=7")
    assert agent.known.means.tolist() == agent.envs._envs[0].unwrapped.means.tolist()  # type: ignore[attr-defined]


def test_the_regret_adds_up_over_the_run() -> None:
    agent = agent_for(timesteps=40, epsilon=1)
    regrets = [float(agent.step()["train/regret"]) for _ in range(4)]
    assert regrets == sorted(regrets)
    assert regrets[-1] == agent.regret
    assert agent.count == 40


# --- where it fits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("FrozenLake-v1", "it takes an environment of one state"),
        ("CartPole-v1", "it takes an environment of one state"),
        ("Pendulum-v1", "it takes Discrete actions, not Box"),
    ],
)
def test_what_is_no_bandit_is_refused(environment: str, reason: str) -> None:
    task = EnvironmentTask.open(environment, EnvironmentConfig(), seed=0)
    assert str(Bandit.refusal(Bandit.Config.parse({}), task)).startswith(reason)
    assert Bandit.alternatives(Bandit.Config.parse({})) == ["Bandit-v0"]


def test_arms_are_pulled_one_after_the_other() -> None:
    with pytest.raises(UsageError, match="--num-envs 2"):
        Bandit.Config.parse({"num_envs": 2})


@pytest.mark.parametrize("rule", RULES)
def test_it_keeps_the_contract(rule: str) -> None:
    check_algorithm("bandit", "Bandit-v0", rule=rule, steps=3, eval_episodes=2, env_kwarg="drift=0.1")
