"""What is put around an environment by options; those of an extra are tested where it is installed."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rllab import envstate
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import PluginError, UsageError
from rllab.planning import plan


class Pair(gymnasium.Env):
    observation_space = spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(0, 1, (2,)))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"a": 1, "b": np.zeros(2, np.float32)}, {}

    def step(self, action):
        return {"a": 2, "b": np.ones(2, np.float32)}, 1.0, False, False, {}


def open_task(name: str, **options: Any) -> EnvironmentTask:
    return EnvironmentTask.open(name, EnvironmentConfig.parse(options), seed=0)


@pytest.fixture
def _pair():
    gymnasium.register("Pair-v0", Pair, max_episode_steps=5)
    yield
    del gymnasium.registry["Pair-v0"]


@pytest.mark.usefixtures("_pair")
def test_a_wrapper_by_name_is_put_around_below_the_stacked_frames():
    task = open_task("Pair-v0", env_wrapper="gymnasium.wrappers:FlattenObservation", frame_stack=2)
    envs = task.make(1, np.random.SeedSequence(0), keep_state=False)
    assert envs.reset().tolist() == [[[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]]
    assert envs.step(np.array([0])).next_observations.tolist() == [[[0, 1, 0, 0, 0], [0, 0, 1, 1, 1]]]
    assert task.wrappers == ["--env-wrapper gymnasium.wrappers:FlattenObservation", "--frame-stack"]


@pytest.mark.usefixtures("_pair")
def test_who_is_refused_for_observations_that_are_no_array_is_told_what_makes_one():
    with pytest.raises(UsageError, match="not Dict") as error:
        plan("dqn", "Pair-v0")
    assert "--env-wrapper gymnasium.wrappers:FlattenObservation makes one vector" in str(error.value.hint)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("gymnasium.wrappers:Nope", PluginError, "has no attribute 'Nope'"),
        ("no_such_module:Wrapper", PluginError, "No module named 'no_such_module'"),
        ("gymnasium.wrappers", PluginError, "module:Class"),
        ("gymnasium.wrappers:TimeLimit", UsageError, "missing 1 required positional argument"),
        ("builtins:str", UsageError, "is no wrapper of Gymnasium"),
    ],
)
def test_a_wrapper_that_cannot_be_used_is_named_with_what_would_be_right(name, kind, said):
    with pytest.raises(kind) as error:
        open_task("CartPole-v1", env_wrapper=[name])
    assert said in str(error.value)
    assert name in error.value.message


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "minigrid"),
        ("BabyAI-GoToRedBall-v0", "minigrid", "minigrid"),
        ("HalfCheetah-v5", "mujoco", "mujoco"),
    ],
)
def test_a_missing_extra_is_named_by_the_command_that_installs_it(name, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [key for key in sys.modules if key.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, loaded)
    if name in gymnasium.registry and extra != "mujoco":
        monkeypatch.delitem(gymnasium.registry, name)
    with pytest.raises(PluginError) as error:
        open_task(name)
    assert error.value.exit_code == 4
    assert error.value.hint == f'Install it: pip install "rllab[{extra}]"'


# --- with the extras ------------------------------------------------------------------------------


def test_atari_games_are_preprocessed_as_by_mnih_et_al_unless_told_otherwise():
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    task = open_task("ALE/Pong-v5")
    assert (task.observation_space.shape, task.observation_space.dtype) == ((4, 84, 84), np.uint8)
    assert task.max_episode_steps == 27_000
    assert open_task("ALE/Pong-v5", frame_stack=1).observation_space.shape == (1, 84, 84)
    assert open_task("ALE/Pong-v5", atari_preprocessing="none").observation_space.shape == (210, 160, 3)
    ram = open_task("ALE/Pong-v5", env_kwarg=["obs_type=ram"])
    assert ram.observation_space.shape == (128,)
    assert task.wrappers == ["the preprocessing of Atari games"]
    with pytest.raises(UsageError, match="frame-skipping"):
        open_task("ALE/Pong-v5", env_kwarg=["frameskip=4"])


def test_a_limit_of_steps_counts_what_an_agent_does_in_atari_games_not_frames():
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    env = open_task("ALE/Pong-v5", max_episode_steps=10).make_one()
    env.reset(seed=0)
    before = env.unwrapped.ale.getEpisodeFrameNumber()  # type: ignore[attr-defined]
    ends = [env.step(0)[3] for _ in range(10)]
    assert ends == [False] * 9 + [True]
    assert env.unwrapped.ale.getEpisodeFrameNumber() - before == 40  # type: ignore[attr-defined]
    assert envstate.choose(open_task("ALE/Pong-v5").make_one, 0).name == "replay"


def test_minigrid_is_refused_with_the_wrappers_that_make_arrays_of_it():
    pytest.importorskip("minigrid")
    with pytest.raises(UsageError, match="not Dict") as error:
        plan("dqn", "MiniGrid-Empty-5x5-v0")
    assert "--env-wrapper minigrid.wrappers:ImgObsWrapper" in str(error.value.hint)
    planned = plan("dqn", "MiniGrid-Empty-5x5-v0", {"env_wrapper": ["minigrid.wrappers:ImgObsWrapper"]})
    assert isinstance(planned.task, EnvironmentTask)
    assert planned.task.observation_space.shape == (7, 7, 3)
    assert planned.task.max_episode_steps == 100
    assert envstate.choose(planned.task.make_one, 0).name == "attributes"


def test_mujoco_goes_on_by_replaying_an_episode():
    pytest.importorskip("mujoco")
    assert envstate.choose(open_task("HalfCheetah-v5").make_one, 0).name == "replay"
