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
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import PluginError, UnknownName, UsageError
from rllab.vectorenv import VectorEnv


class Corridor(gymnasium.Env):
    """Cells 0, 1, ..., `length`; action 1 goes right, 0 stays; ends in the last cell."""

    def __init__(self, length: int = 3, start: int = 0):
        self.length = length
        self.observation_space = spaces.Box(0, length, (1,), np.float32)
        self.action_space = spaces.Discrete(2, start=start)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = np.zeros(1, np.float32)
        return self.cell, {}

    def step(self, action):
        self.cell = self.cell + action
        return self.cell, 0.0, bool(self.cell[0] >= self.length), False, {}


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda groups: ["corridor"])
    monkeypatch.setattr(plugins, "load", lambda group, name: Corridor)
    before = dict(gymnasium.registry)
    gymnasium.register("Corridor-v0", Corridor)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def open_task(name: str, **options: Any) -> EnvironmentTask:
    return EnvironmentTask.open(name, EnvironmentConfig.parse(options), seed=0)


def vector(name: str, **options: Any) -> VectorEnv:
    envs = open_task(name, **options).make(1, np.random.SeedSequence(0), keep_state=False)
    envs.reset()
    return envs


RIGHT = np.array([1])


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
    gymnasium.register("corridor", Corridor)
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


def test_a_frame_stack_holds_the_last_observations_and_begins_anew_with_an_episode():
    envs = vector("Corridor-v0", frame_stack=2)
    assert envs.observation_space.shape == (2, 1)
    rows = [envs.step(RIGHT).next_observations[0, :, 0].tolist() for _ in range(4)]
    assert rows == [[0, 1], [1, 2], [2, 3], [0, 1]]


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
