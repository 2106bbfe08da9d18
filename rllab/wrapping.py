"""What the options put around a single environment: the preprocessing of Atari games, wrappers by name, stacked frames.

In: an environment as Gymnasium makes it. Out: the environment that a method acts in, which is also the one that is
evaluated, recorded and played. Rewards stay what they are; a method clips them for itself (`dqn --clip-rewards`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Tuple
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit

from rllab.envstate import Env
from rllab.errors import PluginError, UsageError, one_line

if TYPE_CHECKING:
    from rllab.environments import EnvironmentConfig

ATARI_SKIP = 4
"""Frames for which an action is repeated."""
ATARI_STACK = 4
"""Frames that are stacked unless `--frame-stack` says another number."""


def is_atari(spec: EnvSpec, config: EnvironmentConfig) -> bool:
    """Whether the standard preprocessing applies: to games of the Arcade Learning Environment as pixels."""
    game = str(spec.entry_point).startswith("ale_py.") and spec.kwargs.get("obs_type", "rgb") != "ram"
    return game and config.atari_preprocessing == "auto"


def prepare(spec: EnvSpec, config: EnvironmentConfig) -> None:
    """Set arguments of the constructor that the wrappers need; what the user gave stays."""
    if is_atari(spec, config) and "frameskip" not in config.env_kwarg:
        spec.kwargs["frameskip"] = 1  # the wrapper skips frames, and takes the brighter of the last two


def limit(env: Env, spec: EnvSpec, config: EnvironmentConfig) -> int | None:
    """Return the steps after which an episode is cut off, by whom it may be, or None."""
    own = getattr(env.unwrapped, "max_steps", None)  # MiniGrid's
    frames = spec.kwargs.get("max_num_frames_per_episode")
    of_game = frames // ATARI_SKIP if frames and is_atari(spec, config) else None
    return config.max_episode_steps or spec.max_episode_steps or of_game or (own if isinstance(own, int) else None)


def names(spec: EnvSpec, config: EnvironmentConfig) -> list[str]:
    """Return what is put around each single environment, its own wrappers too, in words."""
    return [
        *(wrapper.name for wrapper in spec.additional_wrappers),
        *(["the preprocessing of Atari games"] if is_atari(spec, config) else []),
        *(f"--env-wrapper {name}" for name in config.env_wrapper),
        *(["--frame-stack"] if config.frame_stack else []),
    ]


def make(spec: EnvSpec, config: EnvironmentConfig, **rendering: Any) -> Env:
    """Return a new environment with its wrappers.

    Args:
        spec: what Gymnasium knows of it, after `prepare`.
        config: the options.
        **rendering: `render_mode`, if it is to be drawn.
    """
    steps = config.max_episode_steps
    stack = config.frame_stack
    if is_atari(spec, config):
        # a limit counts what the agent does, not frames; so it comes outside
        env: Env = gymnasium.make(spec, max_episode_steps=-1, disable_env_checker=True, **rendering)
        env = AtariPreprocessing(env, noop_max=30, frame_skip=ATARI_SKIP, screen_size=84, grayscale_obs=True)
        env = TimeLimit(env, steps) if steps else env
        stack = stack or ATARI_STACK
    else:
        env = gymnasium.make(spec, max_episode_steps=steps, disable_env_checker=True, **rendering)
    for name in config.env_wrapper:
        env = _wrapped(env, name)
    return FrameStackObservation(env, stack) if stack else env


def way_out(spec: EnvSpec, space: gymnasium.Space[Any]) -> str | None:
    """Return which wrapper makes an array of observations that are none, or None."""
    if isinstance(space, Box):
        return None
    if str(spec.entry_point).startswith("minigrid."):
        return (
            "--env-wrapper minigrid.wrappers:ImgObsWrapper leaves the 7 x 7 picture alone; "
            "minigrid.wrappers:FlatObsWrapper also makes numbers of the mission."
        )
    if isinstance(space, Dict | Tuple) and space.is_np_flattenable:
        return "--env-wrapper gymnasium.wrappers:FlattenObservation makes one vector of them."
    return None


def _wrapped(env: Env, name: str) -> Env:
    """Put the wrapper `module:Class` around an environment."""
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise PluginError(
            f"--env-wrapper {name}: cannot be imported: {type(error).__name__}: {one_line(error)}",
            "It is written module:Class, such as gymnasium.wrappers:FlattenObservation.",
        ) from error
    try:
        made = kind(env)
    except Exception as error:
        raise UsageError(
            f"--env-wrapper {name} cannot be put around {env}: {type(error).__name__}: {one_line(error)}",
            "It is called with the environment alone.",
        ) from error
    if not isinstance(made, gymnasium.Env):
        raise UsageError(
            f"--env-wrapper {name} is no wrapper of Gymnasium", "gymnasium.Wrapper is what it starts from."
        )
    return made
