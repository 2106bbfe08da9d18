"""What every agent has: the baselines beside its return, intervals in env steps."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rllab import experiment, planning
from rllab.agent import Agent, crossings
from rllab.seeding import global_state
from rllab.testing import first_difference


def agent(target: str, seed: int = 0) -> Agent:
    built, _ = experiment.build(planning.plan("dqn", target, {"preset": "none", "seed": seed}))
    assert isinstance(built, Agent)
    return built


def test_what_random_actions_reach_stands_beside_the_return() -> None:
    name, value = agent("CartPole-v1").captions["eval/return"].split()
    assert name == "random"
    assert 15 < float(value) < 35  # an episode of random actions takes 22 steps in the mean


def test_the_baselines_are_the_same_for_every_seed_and_move_no_generator() -> None:
    one, other = agent("CartPole-v1", 0), agent("CartPole-v1", 7)
    before = global_state()
    assert one.captions == other.captions
    assert first_difference(before, global_state()) is None


class Broken(gymnasium.Env[np.ndarray, int]):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        raise RuntimeError("out of order")


def test_an_environment_that_fails_says_so_in_training_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("OutOfOrder-v0", entry_point=Broken)
    monkeypatch.setitem(gymnasium.registry, "OutOfOrder-v0", spec)
    assert agent("OutOfOrder-v0").captions == {}


def test_an_interval_means_the_same_for_any_number_of_environments() -> None:
    # multiples of 4 up to 24, one by one and three at a time
    assert sum(crossings(n, n + 1, 4) for n in range(24)) == 6
    assert [n + 3 for n in range(0, 24, 3) if crossings(n, n + 3, 4)] == [6, 9, 12, 18, 21, 24]
    assert crossings(0, 24, 0) == 0
