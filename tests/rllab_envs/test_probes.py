from typing import Any

import numpy as np
import pytest
from rllab_envs.probes import Action, Constant, Delay, Observation, Probe, Truncation

from rllab.environments import EnvironmentConfig, EnvironmentTask

GAMMA = 0.8
FAULTS = {
    "none": {},
    "bootstraps over a termination": {"mask": "never"},
    "takes truncation for termination": {"mask": "ended"},
    "does not bootstrap": {"mask": "always"},
    "does not discount": {"gamma": 1.0},
    "discounts twice": {"gamma": GAMMA**2},
    "bootstraps from the next episode": {"after": "reset"},
    "goes on summing over the end": {"after": "reset", "mask": "never"},
    "rewards beside other observations": {"roll": 1},
}


def learned(name: str, fault: str, options: dict[str, Any] | None = None, steps: int = 1500) -> dict[float, float]:
    """Return the values that temporal-difference learning with a planted fault converges to, by observation.

    They solve V(o) = mean of r + gamma * V(o') over what was seen from o, as in least-squares TD (Bradtke & Barto,
    1996), on environments stepped as rllab steps them.
    """
    plan: dict[str, Any] = {"mask": "terminated", "after": "final", "gamma": GAMMA, "roll": 0} | FAULTS[fault]
    task = EnvironmentTask.open(name, EnvironmentConfig(env_kwarg=options or {}), seed=0)
    envs = task.make(1, np.random.SeedSequence(1), keep_state=False)
    envs.reset()
    seen, rewards, following, going_on = [], [], [], []
    for _ in range(steps):
        seen.append(float(envs.observations[0, 0]))
        moved = envs.step(np.zeros(1, np.int64))
        rewards.append(float(moved.rewards[0]))
        following.append(float((moved.next_observations if plan["after"] == "final" else envs.observations)[0, 0]))
        cut = {
            "terminated": moved.terminated[0],
            "ended": moved.terminated[0] | moved.truncated[0],
            "never": False,
            "always": True,
        }
        going_on.append(not cut[plan["mask"]])
    rewards = rewards[plan["roll"] :] + rewards[: plan["roll"]]
    states = sorted({*seen, *following})
    a, b = np.eye(len(states)), np.zeros(len(states))
    for i, state in enumerate(states):
        rows = [row for row, observation in enumerate(seen) if observation == state]
        b[i] = np.mean([rewards[row] for row in rows]) if rows else 0.0
        for row in rows:
            a[i, states.index(following[row])] -= plan["gamma"] * going_on[row] / len(rows)
    return dict(zip(states, np.linalg.solve(a, b).tolist(), strict=True))


def expected(probe: Probe, gamma: float = GAMMA) -> dict[float, float]:
    observations, values = probe.expected_values(gamma)
    assert (observations.dtype, observations.shape) == (np.float32, (len(values), 1))
    return dict(zip(observations[:, 0].tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "probe", "options"),
    [
        ("ProbeConstant-v0", Constant(), {}),
        ("ProbeObservation-v0", Observation(), {}),
        ("ProbeDelay-v0", Delay(), {}),
        ("ProbeDelay-v0", Delay(steps=5), {"steps": 5}),
        ("ProbeTruncation-v0", Truncation(), {}),
        ("ProbeTruncation-v0", Truncation(limit=5), {"limit": 5}),
    ],
)
def test_a_sound_method_learns_the_expected_values(name, probe, options):
    values = learned(name, "none", options)
    for observation, value in expected(probe).items():
        assert values[observation] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "fault", "values"),
    [
        ("ProbeConstant-v0", "bootstraps over a termination", {0.0: 1 / (1 - GAMMA)}),
        ("ProbeObservation-v0", "rewards beside other observations", {-1.0: 0.0, 1.0: 0.0}),
        ("ProbeDelay-v0", "does not discount", {0.0: 1.0}),
        ("ProbeDelay-v0", "discounts twice", {0.0: GAMMA**2}),
        ("ProbeDelay-v0", "does not bootstrap", {0.0: 0.0}),
        ("ProbeDelay-v0", "goes on summing over the end", {1.0: 1 / (1 - GAMMA**2)}),
        ("ProbeTruncation-v0", "takes truncation for termination", {1.0: 1 / (1 - GAMMA / 2), -1.0: -1.0}),
        ("ProbeTruncation-v0", "bootstraps over a termination", {1.0: 5.0, -1.0: -1 / (1 - GAMMA)}),
        ("ProbeTruncation-v0", "bootstraps from the next episode", {1.0: 2.0, -1.0: -1.0}),
    ],
)
def test_a_planted_fault_learns_the_other_values_that_the_probe_names(name, fault, values):
    found = learned(name, fault)
    sound = learned(name, "none")
    for observation, value in values.items():
        assert found[observation] == pytest.approx(value, abs=0.2)  # how often -1 and 1 begin is random
    assert max(abs(found[observation] - sound[observation]) for observation in values) > 0.15


def test_only_the_probe_of_ends_tells_a_cut_from_an_end():
    for name in ("ProbeConstant-v0", "ProbeObservation-v0", "ProbeDelay-v0"):
        assert learned(name, "takes truncation for termination") == learned(name, "none")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
def test_values_follow_their_formulas(gamma):
    assert expected(Constant(), gamma) == {0.0: 1.0}
    assert expected(Observation(), gamma) == {-1.0: -1.0, 1.0: 1.0}
    assert expected(Delay(), gamma) == {0.0: gamma, 1.0: 1.0}
    assert list(expected(Delay(steps=4), gamma).values()) == [gamma**3, gamma**2, gamma, 1.0]
    assert expected(Action(), gamma) == {0.0: 1.0}
    assert expected(Action(contextual=True), gamma) == {-1.0: 1.0, 1.0: 1.0}
    assert expected(Truncation(), gamma) == {-1.0: -1.0, 1.0: 1 / (1 - gamma)}


def test_there_are_no_values_without_a_discount_where_nothing_ends():
    with pytest.raises(ValueError, match="gamma is below 1"):
        Truncation().expected_values(1.0)
    with pytest.raises(ValueError, match=r"gamma is a number from 0 to 1, not -0\.1"):
        Constant().expected_values(-0.1)


def rewards_of(env: Probe, seen: float, actions: list[Any]) -> list[float]:
    rewards = []
    for action in actions:
        while env.reset()[0][0] != seen:
            pass
        rewards.append(env.step(action)[1])
    return rewards


def test_the_right_action_is_paid():
    assert rewards_of(Action(), 0.0, [0, 1]) == [-1.0, 1.0]
    contextual = Action(contextual=True)
    assert rewards_of(contextual, 1.0, [0, 1]) == [-1.0, 1.0]
    assert rewards_of(contextual, -1.0, [0, 1]) == [1.0, -1.0]
    for env in (Action(), contextual, Action(continuous=True), Action(contextual=True, continuous=True)):
        for seen in expected(env):
            action = env.heuristic(np.array([seen], np.float32))
            assert action in env.action_space
            assert rewards_of(env, seen, [action]) == [1.0]


def test_a_continuous_action_that_is_not_scaled_to_its_bounds_earns_a_third_at_most():
    env = Action(continuous=True)
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-1.0], [3.0])
    given = [np.array([a], np.float32) for a in (-1, 0.5, 1, 2, 3)]
    np.testing.assert_allclose(rewards_of(env, 0.0, given), [-1, 0, 1 / 3, 1, 1 / 3], atol=1e-6)
    mirrored = Action(contextual=True, continuous=True)
    np.testing.assert_allclose(rewards_of(mirrored, -1.0, given), [1 / 3, 2 / 3, 1 / 3, -1 / 3, -1], atol=1e-6)


def test_actions_outside_the_space_are_refused():
    env = Action(continuous=True)
    for wrong in ([3.5], [0.0, 0.0], [np.nan]):
        with pytest.raises(ValueError, match="Action has actions of Box"):
            env.step(np.array(wrong))
    with pytest.raises(ValueError, match=r"Constant has actions of Discrete\(1\), not 1"):
        Constant().step(1)


def test_an_episode_is_cut_off_at_its_limit_and_terminated_at_once():
    env = Truncation(limit=3)
    env.reset(seed=0)
    for _ in range(20):
        seen = float(env.reset()[0][0])
        steps, terminated, truncated = 0, False, False
        while not (terminated or truncated):
            observation, reward, terminated, truncated, _ = env.step(0)
            steps += 1
            assert observation[0] == reward == seen
        assert (steps, terminated, truncated) == ((1, True, False) if seen < 0 else (3, False, True))


def test_an_observation_is_acted_on_as_often_as_the_other():
    for env in (Observation(), Truncation(), Action(contextual=True)):
        env.reset(seed=0)
        first = [float(env.reset()[0][0]) for _ in range(1000)]
        assert set(first) == {-1.0, 1.0}
        assert abs(np.mean(first)) < 0.13


def test_texts_say_what_happened():
    env = Delay()
    env.reset(seed=0)
    assert env.text() == "step 0: observation 0"
    env.step(0), env.step(0)
    assert env.text() == "step 2: observation 1, action 0, reward +1"
