import copy
import logging
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

from rllab import plugins
from rllab.environments import (
    EnvironmentConfig,
    EnvironmentTask,
    Episode,
    VectorEnv,
    evaluate_episodes,
)
from rllab.errors import PluginError, RunFailed, UnknownName, UsageError
from rllab.state import UncapturedState


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
    """Observes numbers of its own generator; never ends by itself."""

    observation_space = spaces.Box(0, 1, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(2), {}

    def step(self, action):
        action *= 0  # rude
        return self.np_random.random(2), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda groups: ["corridor"])
    monkeypatch.setattr(plugins, "load", lambda group, name: Corridor)
    before = dict(gymnasium.registry)
    gymnasium.register("Corridor-v0", Corridor)
    gymnasium.register("Noise-v0", Noise, max_episode_steps=5)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def open_task(name: str, **options: Any) -> EnvironmentTask:
    return EnvironmentTask.open(name, EnvironmentConfig.parse(options), seed=0)


def vector(name: str, num_envs: int = 1, seed: int = 0, **options: Any) -> VectorEnv:
    envs = open_task(name, **options).make(num_envs, np.random.SeedSequence(seed), keep_state=False)
    envs.reset()
    return envs


RIGHT = np.array([1])


def test_termination_gives_the_true_final_observation_and_then_acts_on_the_first_one():
    envs = vector("Corridor-v0")
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
    envs = vector("Corridor-v0", max_episode_steps=2)
    envs.step(RIGHT)
    last = envs.step(RIGHT)
    assert last.next_observations.tolist() == [[2.0]]
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([False], [True])
    assert last.episodes == [Episode(-2.0, 2)]
    assert envs.observations.tolist() == [[0.0]]


def test_termination_wins_over_a_truncation_at_the_same_step():
    envs = vector("Corridor-v0", max_episode_steps=3)
    for _ in range(3):
        last = envs.step(RIGHT)
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([True], [False])


def test_every_row_is_a_real_step_in_environments_that_end_at_different_times():
    envs = vector("Corridor-v0", num_envs=2)
    rows = [envs.step(np.array([1, i % 2])) for i in range(12)]
    firsts = [row.next_observations[0, 0] for row in rows]
    seconds = [row.next_observations[1, 0] for row in rows]
    assert firsts == [1, 2, 3] * 4
    assert seconds == [0, 1, 1, 2, 2, 3] * 2
    assert sum(len(row.episodes) for row in rows) == 6
    assert sum(episode.length for row in rows for episode in row.episodes) == 24


def test_rewards_are_raw_and_arrays_have_the_documented_types():
    envs = vector("Corridor-v0", num_envs=2)
    step = envs.step(np.array([1, 1]))
    assert step.rewards.dtype == np.float32
    assert step.terminated.dtype == step.truncated.dtype == bool
    assert step.next_observations.dtype == np.float32
    assert step.next_observations.shape == (2, 1)


def test_a_handed_out_array_is_never_written_to():
    envs = vector("Corridor-v0", num_envs=2)
    handed = [envs.observations]
    for _ in range(7):
        handed += [envs.step(np.array([1, 0])).next_observations, envs.observations]
    assert [array[0, 0] for array in handed] == [0, 1, 1, 2, 2, 3, 0, 1, 1, 2, 2, 3, 0, 1, 1]


def test_an_environment_cannot_change_the_actions_of_its_caller():
    actions = np.ones((1, 2), np.float32)
    vector("Noise-v0").step(actions)
    assert actions.tolist() == [[1.0, 1.0]]


def test_actions_of_a_discrete_space_with_a_start_pass_through_as_python_integers():
    envs = vector("Corridor-v0", env_kwarg={"start": 5})
    assert envs.step(np.array([6])).next_observations.tolist() == [[1.0]]
    assert type(envs._envs[0].unwrapped.received[0]) is int
    with pytest.raises(RunFailed, match="AssertionError"):
        envs.step(np.array([1]))


def test_run_seeds_0_and_1_share_no_initial_observation():
    rows = [tuple(row) for seed in (0, 1) for row in vector("Noise-v0", 16, seed).observations]
    assert len(set(rows)) == 32


def test_the_same_seed_gives_the_same_rows_whatever_the_number_of_environments():
    few, many = vector("Noise-v0", 2), vector("Noise-v0", 5)
    for _ in range(7):
        few.step(np.zeros((2, 2), np.float32))
        many.step(np.zeros((5, 2), np.float32))
        np.testing.assert_array_equal(few.observations, many.observations[:2])


def test_only_the_first_reset_seeds():
    envs = vector("Noise-v0")
    first = envs.observations
    assert not np.array_equal(envs.reset(), first)


def test_an_action_space_does_not_draw_the_numbers_of_its_environment():
    envs = vector("Noise-v0")
    own, space = envs._envs[0].unwrapped.np_random, envs._envs[0].action_space.np_random
    assert own.bit_generator.state["state"]["inc"] != space.bit_generator.state["state"]["inc"]


def test_evaluation_gives_each_environment_a_fixed_share_and_stops_stepping_it_after_that():
    envs = vector("Corridor-v0", num_envs=3, max_episode_steps=10)
    seen_starts = []

    def act(observations, starts):
        assert observations.shape == (3, 1)
        seen_starts.append(starts.tolist())
        return np.array([1, 0, 1])  # the second one never arrives

    returns, lengths = evaluate_episodes(envs, act, 4)
    assert lengths.tolist() == [3, 10, 3, 3]  # episodes 0 and 3 are the first environment's
    assert returns.tolist() == [7.0, -10.0, 7.0, 7.0]
    assert [len(env.unwrapped.received) for env in envs._envs] == [6, 10, 3]
    assert seen_starts[:5] == [[True] * 3, [False] * 3, [False] * 3, [True, False, True], [False] * 3]


def test_evaluation_can_be_interrupted_between_two_steps():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    envs = vector("Corridor-v0")
    with pytest.raises(KeyboardInterrupt):
        evaluate_episodes(envs, lambda observations, starts: RIGHT, 5, check)
    assert len(envs._envs[0].unwrapped.received) == 2


def test_an_exception_of_an_environment_names_it_and_the_step():
    envs = vector("Corridor-v0", num_envs=2, env_kwarg={"fault": "bridge out"})
    envs.step(np.array([0, 1]))
    with pytest.raises(RunFailed, match=r"Corridor-v0 \(environment 1 of 2, step 2 .*ZeroDivisionError: bridge out"):
        envs.step(np.array([0, 1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_ends_the_run(value):
    envs = vector("Corridor-v0", env_kwarg={"obs_bug": value})
    envs.step(RIGHT)
    with pytest.raises(RunFailed, match=r"step 2 of its episode.*an observation that is not finite"):
        envs.step(RIGHT)


def test_a_large_but_finite_observation_is_none_of_our_business():
    envs = vector("Corridor-v0", env_kwarg={"obs_bug": 1e30, "length": 10})
    envs.step(RIGHT)
    assert envs.step(RIGHT).next_observations[0, 0] == np.float32(1e30)


def test_a_reward_that_is_not_finite_ends_the_run(monkeypatch):
    envs = vector("Noise-v0", 3)
    monkeypatch.setattr(Noise, "step", lambda self, action: (np.zeros(2), np.nan, False, False, {}))
    with pytest.raises(RunFailed, match=r"environment 0 of 3.*a reward that is not finite"):
        envs.step(np.zeros((3, 2), np.float32))


def test_a_wrong_number_of_actions_is_an_error():
    with pytest.raises(ValueError, match="1 actions for 2 environments"):
        vector("Corridor-v0", 2).step(RIGHT)


def test_observations_of_tuple_spaces_are_tuples_of_arrays():
    envs = vector("Blackjack-v1", num_envs=3)
    assert [part.shape for part in envs.observations] == [(3,)] * 3
    for _ in range(5):
        step = envs.step(np.array([1, 0, 1]))
    assert isinstance(step.next_observations, tuple)


def test_a_frame_stack_holds_the_last_observations_and_begins_anew_with_an_episode(monkeypatch):
    bare_step, bare_reset = Corridor.step, Corridor.reset  # the wrapper of Gymnasium counts on new arrays
    monkeypatch.setattr(Corridor, "step", lambda self, action: tuple(map(copy.copy, bare_step(self, action))))
    monkeypatch.setattr(Corridor, "reset", lambda self, **given: (bare_reset(self, **given)[0].copy(), {}))
    envs = vector("Corridor-v0", frame_stack=2)
    assert envs.observation_space.shape == (2, 1)
    rows = [envs.step(RIGHT).next_observations[0, :, 0].tolist() for _ in range(4)]
    assert rows == [[0, 1], [1, 2], [2, 3], [0, 1]]


# --- names ------------------------------------------------------------------------------------------------


def test_a_task_knows_spaces_and_limit_of_its_environment():
    task = open_task("CartPole-v1")
    assert (task.name, task.slug, task.kind) == ("CartPole-v1", "CartPole-v1", "environment")
    assert task.observation_space.shape == (4,)
    assert task.action_space == spaces.Discrete(2)
    assert task.max_episode_steps == 500
    assert open_task("CartPole-v1", max_episode_steps=7).max_episode_steps == 7
    assert open_task("Corridor-v0").max_episode_steps is None


def test_an_unknown_id_names_the_nearest_ones():
    with pytest.raises(UnknownName, match="'CartPole-v1'") as error:
        open_task("CartPloe-v1")
    assert error.value.exit_code == 4
    with pytest.raises(UnknownName, match="'corridor'"):
        open_task("coridor")
    with pytest.raises(UnknownName):
        open_task("what is this?")


def test_an_unknown_version_says_which_there_are():
    with pytest.raises(UnknownName, match="There is CartPole-v0 and CartPole-v1"):
        open_task("CartPole-v7")


def test_an_old_version_works_with_one_line_in_the_log(caplog):
    with caplog.at_level(logging.WARNING, "rllab"):
        open_task("CartPole-v0").make(2, np.random.SeedSequence(0), keep_state=False).reset()
    assert [record.getMessage() for record in caplog.records] == ["CartPole-v0 is out of date: there is CartPole-v1"]


def test_an_id_without_version_is_the_latest(caplog):
    assert open_task("CartPole").spec.id == "CartPole-v1"
    assert "CartPole-v1" in caplog.text


def test_the_name_of_a_plugin_opens_it(monkeypatch):
    assert EnvironmentTask.names() == ["corridor"]
    envs = vector("corridor", env_kwarg={"length": 1}, max_episode_steps=4)
    assert envs.step(RIGHT).terminated.tolist() == [True]
    gymnasium.register("corridor", Noise)
    with pytest.raises(PluginError, match="gymnasium:corridor"):
        open_task("corridor")


def test_a_module_of_the_working_folder_registers_its_environments(tmp_path, monkeypatch):
    (tmp_path / "my_toys.py").write_text(
        "import gymnasium\ngymnasium.register('Toy-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert open_task("my_toys:Toy-v0").spec.id == "Toy-v0"
    with pytest.raises(PluginError, match="cannot import the module 'no_such_toys'"):
        open_task("no_such_toys:Toy-v0")


def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch):
    def needs_box2d():
        raise gymnasium.error.DependencyNotInstalled('Box2D is missing, run `pip install "gymnasium[box2d]"`')

    gymnasium.register("Lander-v0", needs_box2d)
    with pytest.raises(PluginError, match=r'pip install "rllab\[box2d\]"') as error:
        open_task("Lander-v0")
    assert error.value.exit_code == 4
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(PluginError, match="ale_py"):
        open_task("ALE/Pong-v5")


def test_an_argument_that_the_constructor_does_not_take_is_a_mistake_of_usage():
    with pytest.raises(UsageError, match=r"(?s)--env-kwarg lenght.*Did you mean 'length'.*It takes length, start"):
        open_task("Corridor-v0", env_kwarg={"lenght": 3})
    with pytest.raises(UsageError, match="--env-kwarg length"):
        open_task("Corridor-v0", env_kwarg=["length=long"])


def test_a_constructor_that_raises_is_told_in_one_line():
    def broken():
        raise OSError("no such rom\nand more")

    gymnasium.register("Broken-v0", broken)
    with pytest.raises(PluginError, match=r"Broken-v0 cannot be made: OSError: no such rom$"):
        open_task("Broken-v0")


def test_what_libraries_say_to_each_other_is_no_line_in_the_log(caplog):
    def talkative():
        warnings.warn("builtin type has no __module__", DeprecationWarning, stacklevel=1)
        warnings.warn("this simulator is slow", UserWarning, stacklevel=1)
        return Corridor()

    gymnasium.register("Talkative-v0", talkative)
    open_task("Talkative-v0")
    assert [record.getMessage() for record in caplog.records] == ["Talkative-v0: this simulator is slow"]


def test_normalising_wrappers_are_warned_about(caplog):
    wrapper = WrapperSpec("N", "gymnasium.wrappers:NormalizeObservation", {"epsilon": 1e-8})
    gymnasium.register("Normalised-v0", Corridor, additional_wrappers=(wrapper,))
    open_task("Normalised-v0")
    assert "--normalize-observations" in caplog.text


def test_a_space_that_makes_no_batch_is_refused_when_environments_are_made():
    class Writer(Corridor):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Text(5)

    gymnasium.register("Writer-v0", Writer)
    with pytest.raises(UsageError, match="make no batch"):
        vector("Writer-v0")


def test_environments_made_without_keeping_state_have_none():
    with pytest.raises(UncapturedState, match="keep_state=False"):
        vector("Corridor-v0").state_dict()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (
            ["a=1", "b=true", "c=text", 'd="1"', "e=[1, 2]", "f=none"],
            dict(a=1, b=True, c="text", d="1", e=[1, 2], f=None),
        ),
        ("a=0.5,b=[1,2],c=x", dict(a=0.5, b=[1, 2], c="x")),
        ("map=4x4", {"map": "4x4"}),
        ("none", {}),
        (None, {}),
        ({"a": "none"}, {"a": None}),
    ],
)
def test_arguments_of_the_constructor_are_read_as_json_else_as_text(given, read):
    assert EnvironmentConfig.parse({"env_kwarg": given}).env_kwarg == read


def test_an_argument_without_a_value_is_a_mistake_of_usage():
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        EnvironmentConfig.parse({"env_kwarg": ["slippery"]})
