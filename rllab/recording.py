"""Recording: an agent plays, and every frame goes into a film with the return on screen.

In: a trained agent and a file's name. Out: the film, and how the episodes went. `rllab record` and `--record` of a run
call this; what environments can show is told apart here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from rllab import stopping
from rllab.agent import Agent
from rllab.callbacks import Callback
from rllab.environments import EnvironmentTask, missing_package
from rllab.envstate import Env
from rllab.errors import RunFailed, UsageError, one_line
from rllab.intervals import Interval
from rllab.parts import films, screen
from rllab.parts.screen import Cell, Frame
from rllab.runfolder import RunFolder
from rllab.seeding import preserved_globals
from rllab.stopping import StopRequested

_log = logging.getLogger("rllab")

Mode = Literal["rgb_array", "ansi"]
End = Literal["", "terminated", "truncated", "cut off"]

MAX_STEPS = 5_000
"""Steps of an episode that are recorded at most, unless said otherwise: some never end."""
USUAL_FPS = 30.0
"""Frames per second of what does not say."""
_TEXT_FPS = 4.0
_REST = 1.0
"""Seconds that the last frame of an episode stays."""


class CannotRender(UsageError):
    """An environment that shows nothing of itself."""


class Scene(NamedTuple):
    """A moment of an episode, before its first step or after one.

    Attributes:
        frame: what is seen; None where nobody looks.
        episode: its number, from 1.
        step: steps so far.
        reward: of the last step.
        return_: the sum of raw rewards so far.
        ended: "", or how the episode ended.
    """

    frame: Frame | None
    episode: int
    step: int
    reward: float
    return_: float
    ended: End


class Recording(NamedTuple):
    """A film that was made, and the last scene of each episode."""

    path: Path
    episodes: list[Scene]


# --- what an environment can show -----------------------------------------------------------------


def modes(task: EnvironmentTask) -> list[Mode]:
    """Return how an environment can be rendered so that a program sees it, pixels first."""
    said = task.metadata.get("render_modes") or ()
    known: tuple[Mode, ...] = ("rgb_array", "ansi")
    return [mode for mode in known if mode in said]


def mode_for(task: EnvironmentTask, *, text: bool = False) -> Mode:
    """Return how to render an environment.

    Args:
        task: the environment.
        text: whether it has to be text.

    Raises:
        CannotRender: if it cannot be.
    """
    there = modes(task)
    if text and "ansi" not in there:
        raise CannotRender(f"{task.name} cannot be shown as text: it has no rendering as 'ansi'", _others(task))
    if not there:
        raise CannotRender(
            f"{task.name} cannot be rendered: it has neither 'rgb_array' nor 'ansi' among its render modes",
            _others(task),
        )
    return "ansi" if text else there[0]


def _others(task: EnvironmentTask) -> str:
    said = [str(mode) for mode in task.metadata.get("render_modes") or ()]
    return f"It has {', '.join(said)}." if said else "It has none: `metadata` of its class would list them."


def check(task: EnvironmentTask) -> None:
    """Render a first frame, so that what cannot be seen is told before it is trained.

    Raises:
        CannotRender: if there is nothing to see.
        PluginError: if a package is missing.
    """
    with preserved_globals(), windowless(), closing(opened(task, mode_for(task))) as env:
        env.reset(seed=0)
        screen.picture(render(env, task))


def has_display() -> bool:
    """Return whether a window can be opened, as far as the environment variables tell."""
    if os.environ.get("SDL_VIDEODRIVER"):
        return True
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


@contextmanager
def windowless() -> Iterator[None]:
    """Where there is no display, keep pygame in the block from looking for one, and for a loudspeaker, aloud."""
    before = {name: os.environ.get(name) for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER")}
    if not has_display():
        os.environ.update(dict.fromkeys(before, "dummy"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def opened(task: EnvironmentTask, mode: Mode) -> Env:
    """Return an environment that can be rendered, with all its wrappers.

    Raises:
        CannotRender: if its constructor does not take `render_mode`.
        PluginError: if a package is missing.
    """
    try:
        return task.make_one(render_mode=mode)
    except Exception as error:
        if "render_mode" in str(error):
            raise CannotRender(
                f"{task.name} cannot be rendered: its constructor takes no render_mode, although it has {mode!r}"
            ) from error
        raise


def render(env: Env, task: EnvironmentTask) -> Frame:
    """Return what an environment looks like now.

    Raises:
        CannotRender: if its rendering fails.
        PluginError: if a package is missing.
    """
    try:
        frame: Any = env.render()
        if isinstance(frame, list) and frame:
            frame = frame[-1]
        if frame is None or isinstance(frame, list):
            raise ValueError("render() returned nothing")
        if not isinstance(frame, str) and hasattr(frame, "getvalue"):
            frame = frame.getvalue()
        return frame if isinstance(frame, str) else np.asarray(frame)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise missing_package(task.name, error) from error
    except (Exception, SystemExit) as error:
        raise CannotRender(
            f"{task.name} cannot be rendered: {type(error).__name__}: {one_line(error)}",
            "The run itself is sound: `rllab eval` measures it without a picture.",
        ) from error


def fps_of(task: EnvironmentTask, mode: Mode) -> float:
    """Return the frames per second that an environment is made for."""
    try:
        said = float(task.metadata.get("render_fps") or 0)
    except (TypeError, ValueError):
        said = 0.0
    return said if 0 < said < 1000 else _TEXT_FPS if mode == "ansi" else USUAL_FPS


# --- playing --------------------------------------------------------------------------------------


def scenes(
    agent: Agent,
    env: Env,
    *,
    episodes: int,
    seeds: np.random.SeedSequence,
    deterministic: bool,
    max_steps: int,
    every: int = 1,
) -> Iterator[Scene]:
    """Play whole episodes in an environment that can be rendered, and yield every moment of them.

    Args:
        agent: who plays; see `Algorithm.undisturbed`.
        env: where.
        episodes: how many.
        seeds: of the environment and of sampling.
        deterministic: take the best action rather than a sample.
        max_steps: where an episode is cut off.
        every: of so many moments one has a frame; the first and the last of an episode always have.

    Raises:
        RunFailed: if the environment raises.
        CannotRender: if it cannot be rendered.
    """
    task, space = agent.task, agent.observation_space
    env_seed, torch_seed = (int(word) for word in seeds.generate_state(2))
    torch.manual_seed(torch_seed)
    memory: Any = None
    for episode in range(1, episodes + 1):
        step, total, ended = 0, 0.0, end_of(False, False, False)
        with faults_of(task, f"at the reset of episode {episode}"):
            observation, _ = env.reset(seed=env_seed if episode == 1 else None)
        yield Scene(render(env, task), episode, 0, 0.0, 0.0, "")
        while not ended:
            stopping.check()
            empty: Any = create_empty_array(space, 1, np.zeros)
            batch: Any = concatenate(space, [observation], empty)
            actions, memory = agent.act(batch, memory, np.array([step == 0]), deterministic=deterministic)
            with faults_of(task, f"episode {episode}, step {step + 1}"):
                observation, reward, terminated, truncated, _ = env.step(_action(agent.action_space, actions))
            step, total = step + 1, total + float(reward)
            ended = end_of(terminated, truncated, step >= max_steps)
            seen = render(env, task) if ended or step % every == 0 else None
            yield Scene(seen, episode, step, float(reward), total, ended)


@contextmanager
def faults_of(task: EnvironmentTask, where: str) -> Iterator[None]:
    """Turn whatever an environment raises into one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise RunFailed(f"{task.name} ({where}) raised {type(error).__name__}: {one_line(error)}") from error


def _action(space: gymnasium.Space[Any], actions: Any) -> Any:
    """Return the first action as an environment takes it: Python's own integer for Discrete."""
    action = actions[0]
    if isinstance(space, spaces.Discrete):
        return int(action)
    return np.array(action, space.dtype) if space.dtype is not None else action


def end_of(terminated: Any, truncated: Any, cut: bool) -> End:
    """Return how an episode has ended; "" if it goes on. A termination wins, and a limit of our own comes last."""
    return "terminated" if terminated else "truncated" if truncated else "cut off" if cut else ""


def cells(scene: Scene, episodes: int | None = None) -> list[Cell]:
    """Return what the caption of a scene says."""
    last = Cell("episode", f"{scene.episode}/{episodes}" if episodes else f"{scene.episode}")
    last = Cell("", "") if episodes == 1 else last
    return [
        Cell("return", screen.number(scene.return_)),
        Cell("step", f"{scene.step:,}"),
        Cell("reward", screen.number(scene.reward)),
        Cell("", scene.ended) if scene.ended else last,
    ]


def record(
    agent: Agent,
    path: Path,
    *,
    episodes: int = 1,
    seeds: np.random.SeedSequence,
    deterministic: bool = True,
    fps: float | None = None,
    max_steps: int = MAX_STEPS,
) -> Recording:
    """Have an agent play, and write a film of it; nothing of the agent changes.

    Args:
        agent: who plays.
        path: the file: .mp4, .gif, or .txt for an environment that can be rendered as text.
        episodes: how many.
        seeds: of the environment and of sampling.
        deterministic: take the best action rather than a sample.
        fps: frames per second; those of the environment by default.
        max_steps: where an episode is cut off.

    Raises:
        CannotRender: if the environment cannot be rendered.
        PluginError: if a package is missing, for rendering or for the file.
        RunFailed: if the file cannot be written, or the environment raises.
    """
    films.check(path)
    task = agent.task
    mode = mode_for(task, text=path.suffix.lower() == ".txt")
    made: list[Scene] = []
    with (
        agent.undisturbed(),
        windowless(),
        closing(opened(task, mode)) as env,
        films.opened(path, fps or fps_of(task, mode)) as film,
    ):
        for scene in scenes(
            agent,
            env,
            episodes=episodes,
            seeds=seeds,
            deterministic=deterministic,
            max_steps=max_steps,
            every=film.every,
        ):
            if scene.frame is not None:
                _add(film, scene, episodes)
            if scene.ended:
                made.append(scene._replace(frame=None))
    return Recording(path, made)


def _add(film: films.Film, scene: Scene, episodes: int) -> None:
    assert scene.frame is not None
    said = cells(scene, episodes)
    words = "  ".join(f"{cell.label} {cell.value}".strip() for cell in said).rstrip()
    text = f"{words}\n{scene.frame}" if isinstance(scene.frame, str) else words
    image = screen.captioned(screen.picture(scene.frame), said, ended=bool(scene.ended))
    film.add(image, text, seconds=_REST if scene.ended else 0.0)


# --- at the end of a run --------------------------------------------------------------------------


class Recorder(Callback):
    """Records an episode when training has ended: media/episode-<step>.mp4 or .gif. A failure is a warning.

    Args:
        folder: the run folder.
    """

    every = Interval.parse("100%")
    transient: ClassVar[frozenset[str]] = frozenset({"folder"})

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_due(self) -> None:
        """Record, with the clock of training stopped."""
        agent = self.trainer.algorithm
        if not self.trainer.ending or not isinstance(agent, Agent):
            return
        with self.trainer.clock_paused():
            try:
                path = self.folder.media_file("episode", agent.count, films.best_suffix()[0])
                record(agent, path, seeds=agent.streams.sequence("recording"))
            except StopRequested:
                raise
            except Exception as error:  # noqa: BLE001 - no film is worth the end of a run
                stopping.check()  # the encoder may have been ended by the same Ctrl-C
                _log.warning("the end of the run could not be recorded: %s", one_line(error))
