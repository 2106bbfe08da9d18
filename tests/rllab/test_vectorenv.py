import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.toy_text import BlackjackEnv
from gymnasium.wrappers import TimeLimit

from rllab.errors import RunFailed, UsageError
from rllab.state import UncapturedState
from rllab.vectorenv import Episode, VectorEnv, evaluate_episodes


class Corridor(gymnasium.Env):
    """Cells 0, 1, ..., `length`; action 1 goes right, 0 stays; each step pays -1, the end pays +10 more."""

    def __init__(self, length: int = 3, start: int = 0, fault: str = "", obs_bug: float | None = None):
        self.length, self.fault, self.obs_bug = length, fault, obs_bug
        self.observation_space = spaces.Box(0, length, (1,), np.float32)
        self.action_space = spaces.Discrete(2, start=start)
        self.cell = np.zeros(1, np.float32)
        self.received: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell[0] = 0  # the same buffer every time: rows must be copies
        return self.cell, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.received.append(action)
        self.cell[0] += action - self.action_space.start
        if self.fault and self.cell[0] == 2:
            raise ZeroDivisionError(self.fault)
        if self.obs_bug is not None and self.cell[0] == 2:
            self.cell[0] = self.obs_bug
        at_end = bool(self.cell[0] >= self.length)
        return self.cell, 9.0 if at_end else -1.0, at_end, False, {}


class Noise(gymnasium.Env):
    """Observes numbers of its own generator; never ends."""

    observation_space = spaces.Box(0, 1, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(2), {}

    def step(self, action):
        action *= 0  # rude
        return self.np_random.random(2), 0.0, False, False, {}


class Source:
    """Makes environments of a class, without any registry."""

    def __init__(self, kind: type[gymnasium.Env], limit: int | None, options: dict[str, Any]):
        self.kind, self.limit, self.options = kind, limit, options
        self.name = kind.__name__
        env = self.make_one()
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def make_one(self) -> gymnasium.Env:
        env = self.kind(**self.options)
        return env if self.limit is None else TimeLimit(env, self.limit)


def vector(
    kind: type[gymnasium.Env], num_envs: int = 1, seed: int = 0, limit: int | None = None, **options: Any
) -> VectorEnv:
    envs = VectorEnv(Source(kind, limit, options), num_envs, np.random.SeedSequence(seed), keep_state=False)
    envs.reset()
    return envs


RIGHT = np.array([1])


def test_termination_gives_the_true_final_observation_and_then_acts_on_the_first_one():
    envs = vector(Corridor)
    assert envs.observations.tolist() == [[0.0]]
    first, second, third = (envs.step(RIGHT) for _ in range(3))
    assert [t.next_observations.tolist() for t in (first, second, third)] == [[[1.0]], [[2.0]], [[3.0]]]
    assert [t.terminated.tolist() for t in (first, second, third)] == [[False], [False], [True]]
    assert [t.rewards.tolist() for t in (first, second, third)] == [[-1.0], [-1.0], [9.0]]
    assert third.episodes == [Episode(7.0, 3)]
    assert first.episodes == []
    assert envs.observations.tolist() == [[0.0]]
    assert envs.starts.tolist() == [True]


def test_truncation_gives_the_true_final_observation_and_is_not_a_termination():
    envs = vector(Corridor, limit=2)
    envs.step(RIGHT)
    last = envs.step(RIGHT)
    assert last.next_observations.tolist() == [[2.0]]
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([False], [True])
    assert last.episodes == [Episode(-2.0, 2)]
    assert envs.observations.tolist() == [[0.0]]


def test_termination_wins_over_a_truncation_at_the_same_step():
    envs = vector(Corridor, limit=3)
    for _ in range(3):
        last = envs.step(RIGHT)
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([True], [False])


def test_every_row_is_a_real_step_in_environments_that_end_at_different_times():
    envs = vector(Corridor, num_envs=2)
    rows = [envs.step(np.array([1, i % 2])) for i in range(12)]
    firsts = [row.next_observations[0, 0] for row in rows]
    seconds = [row.next_observations[1, 0] for row in rows]
    assert firsts == [1, 2, 3] * 4
    assert seconds == [0, 1, 1, 2, 2, 3] * 2
    assert sum(len(row.episodes) for row in rows) == 6
    assert sum(episode.length for row in rows for episode in row.episodes) == 24


def test_rewards_are_raw_and_arrays_have_the_documented_types():
    envs = vector(Corridor, num_envs=2)
    step = envs.step(np.array([1, 1]))
    assert step.rewards.dtype == np.float32
    assert step.terminated.dtype == step.truncated.dtype == bool
    assert step.next_observations.dtype == np.float32
    assert step.next_observations.shape == (2, 1)


def test_a_handed_out_array_is_never_written_to():
    envs = vector(Corridor, num_envs=2)
    handed = [envs.observations]
    for _ in range(7):
        handed += [envs.step(np.array([1, 0])).next_observations, envs.observations]
    assert [array[0, 0] for array in handed] == [0, 1, 1, 2, 2, 3, 0, 1, 1, 2, 2, 3, 0, 1, 1]


def test_an_environment_cannot_change_the_actions_of_its_caller():
    actions = np.ones((1, 2), np.float32)
    vector(Noise).step(actions)
    assert actions.tolist() == [[1.0, 1.0]]


def test_actions_of_a_discrete_space_with_a_start_pass_through_as_python_integers():
    envs = vector(Corridor, start=5)
    assert envs.step(np.array([6])).next_observations.tolist() == [[1.0]]
    assert type(envs._envs[0].unwrapped.received[0]) is int
    with pytest.raises(RunFailed, match="AssertionError"):
        envs.step(np.array([1]))


def test_run_seeds_0_and_1_share_no_initial_observation():
    rows = [tuple(row) for seed in (0, 1) for row in vector(Noise, 16, seed).observations]
    assert len(set(rows)) == 32


def test_the_same_seed_gives_the_same_rows_whatever_the_number_of_environments():
    few, many = vector(Noise, 2, limit=5), vector(Noise, 5, limit=5)
    for _ in range(7):
        few.step(np.zeros((2, 2), np.float32))
        many.step(np.zeros((5, 2), np.float32))
        np.testing.assert_array_equal(few.observations, many.observations[:2])


def test_only_the_first_reset_seeds():
    envs = vector(Noise)
    first = envs.observations
    assert not np.array_equal(envs.reset(), first)


def test_an_action_space_does_not_draw_the_numbers_of_its_environment():
    envs = vector(Noise)
    own, space = envs._envs[0].unwrapped.np_random, envs._envs[0].action_space.np_random
    assert own.bit_generator.state["state"]["inc"] != space.bit_generator.state["state"]["inc"]


def test_evaluation_gives_each_environment_a_fixed_share_and_stops_stepping_it_after_that():
    envs = vector(Corridor, num_envs=3, limit=10)
    seen_starts = []

    def act(observations, starts):
        assert observations.shape == (3, 1)
        seen_starts.append(starts.tolist())
        return np.array([1, 0, 1])  # the second one never arrives

    returns, lengths = evaluate_episodes(envs, act, 4)
    assert lengths.tolist() == [3, 10, 3, 3]  # episodes 0 and 3 are the first environment's
    assert returns.tolist() == [7.0, -10.0, 7.0, 7.0]
    assert [len(env.unwrapped.received) for env in envs._envs] == [6, 10, 3]
    assert seen_starts[:5] == [[True] * 3, [False] * 3, [False] * 3, [True, False, True], [False, False, True]]


def test_evaluation_can_be_interrupted_between_two_steps():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    envs = vector(Corridor)
    with pytest.raises(KeyboardInterrupt):
        evaluate_episodes(envs, lambda observations, starts: RIGHT, 5, check)
    assert len(envs._envs[0].unwrapped.received) == 2


def test_an_exception_of_an_environment_names_it_and_the_step():
    envs = vector(Corridor, num_envs=2, fault="bridge out")
    envs.step(np.array([0, 1]))
    with pytest.raises(RunFailed, match=r"Corridor \(environment 1 of 2, step 2 .*ZeroDivisionError: bridge out"):
        envs.step(np.array([0, 1]))


def test_an_observation_of_another_shape_ends_the_run_and_is_not_broadcast(monkeypatch):
    envs = vector(Corridor)
    monkeypatch.setattr(Corridor, "step", lambda self, action: (np.float32(1), 0.0, False, False, {}))
    with pytest.raises(RunFailed, match=r"observation of shape \(\), not \(1,\)"):
        envs.step(RIGHT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_ends_the_run(value):
    envs = vector(Corridor, obs_bug=value)
    envs.step(RIGHT)
    with pytest.raises(RunFailed, match=r"step 2 of its episode.*an observation that is not finite"):
        envs.step(RIGHT)


def test_a_first_observation_that_is_not_finite_ends_the_run_and_names_the_environment(monkeypatch):
    envs = vector(Corridor, num_envs=2)
    monkeypatch.setattr(Corridor, "reset", lambda self, **_: (np.full(1, np.nan, np.float32), {}))
    with pytest.raises(RunFailed, match=r"Corridor \(environment 0 of 2, at a reset\).*observation that is not finite"):
        envs.reset()


@pytest.mark.parametrize("method", ["reset", "step"])
def test_an_environment_that_ends_the_program_only_ends_the_run(monkeypatch, method):
    envs = vector(Corridor)
    monkeypatch.setattr(Corridor, method, lambda self, *_, **__: sys.exit(0))
    with pytest.raises(RunFailed, match=r"Corridor \(environment 0 of 1, .*\) raised SystemExit: 0"):
        envs.reset() if method == "reset" else envs.step(RIGHT)


def test_a_large_but_finite_observation_is_none_of_our_business():
    envs = vector(Corridor, obs_bug=1e30, length=10)
    envs.step(RIGHT)
    assert envs.step(RIGHT).next_observations[0, 0] == np.float32(1e30)


def test_a_reward_that_is_not_finite_ends_the_run(monkeypatch):
    envs = vector(Noise, 3)
    monkeypatch.setattr(Noise, "step", lambda self, action: (np.zeros(2), np.nan, False, False, {}))
    with pytest.raises(RunFailed, match=r"environment 0 of 3.*a reward that is not finite"):
        envs.step(np.zeros((3, 2), np.float32))


def test_a_wrong_number_of_actions_is_an_error():
    with pytest.raises(ValueError, match="1 actions for 2 environments"):
        vector(Corridor, 2).step(RIGHT)


def test_observations_of_tuple_spaces_are_tuples_of_arrays():
    envs = vector(BlackjackEnv, num_envs=3)
    assert [part.shape for part in envs.observations] == [(3,)] * 3
    for _ in range(5):
        step = envs.step(np.array([1, 0, 1]))
    assert isinstance(step.next_observations, tuple)


def test_a_space_that_makes_no_batch_is_refused_when_environments_are_made():
    class Writer(Corridor):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Text(5)

    with pytest.raises(UsageError, match="make no batch"):
        vector(Writer)


def test_environments_made_without_keeping_state_have_none():
    with pytest.raises(UncapturedState, match="keep_state=False"):
        vector(Corridor).state_dict()
