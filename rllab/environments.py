"""Environments: from an id, a seed and a count to one vector environment with one meaning.

In: a Gymnasium id, `module:Id`, or the name of a plugin (entry-point group `rllab.envs`). Out: a `VectorEnv`
that gives true final observations and no row that is not a real step, and whose state a checkpoint can hold.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, ClassVar, NamedTuple, NoReturn, Self, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs import registration
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector.utils import create_empty_array
from gymnasium.wrappers import FrameStackObservation, NormalizeObservation, NormalizeReward, TimeLimit
from pydantic import NonNegativeInt, PositiveInt, field_validator

from rllab import envstate
from rllab.config import Config
from rllab.envstate import Strategy
from rllab.errors import PluginError, RunFailed, UnknownName, UsageError, did_you_mean
from rllab.seeding import preserved_globals
from rllab.state import State, UncapturedState
from rllab.task import Task

Env: TypeAlias = gymnasium.Env[Any, Any]
Array: TypeAlias = npt.NDArray[Any]

PLUGIN_GROUP = "rllab.envs"
_FAMILIES = {
    "ALE/": ("ale_py", "atari"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
}
"""Ids that a package registers when it is imported: how they begin, the package, the extra that brings it."""

logger = logging.getLogger("rllab")


class EnvironmentConfig(Config):
    """Options of every environment."""

    max_episode_steps: PositiveInt | None = None
    """Steps after which an episode is cut off; none: the environment's own limit."""

    env_kwarg: dict[str, Any] = {}
    """KEY=VALUE for the environment's constructor; may be repeated. Values are read as JSON, else as text."""

    frame_stack: NonNegativeInt = 0
    """How many of the last observations are stacked into one; 0 for none."""

    @field_validator("env_kwarg", mode="before")
    @classmethod
    def _read_pairs(cls, value: Any) -> Any:
        if isinstance(value, str | list | tuple):
            texts = [value] if isinstance(value, str) else value
            pairs = [pair for text in texts for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", str(text))]
            return dict(map(_pair, (pair for pair in pairs if pair not in {"", "none"})))
        # TOML has no null: a None is written as "none"
        return {key: None if item == "none" else item for key, item in value.items()} if value else {}


def _pair(text: Any) -> tuple[str, Any]:
    key, equals, value = str(text).strip().partition("=")
    if not equals or not key.isidentifier():
        raise ValueError(f"expected KEY=VALUE, such as is_slippery=false, not {text!r}")
    try:
        return key, None if value == "none" else json.loads(value)
    except json.JSONDecodeError:
        return key, value


# --- from a name to an environment ----------------------------------------------------------------


class EnvironmentTask(Task):
    """An environment to train on.

    Attributes:
        name: the id as the user wrote it.
        config: an `EnvironmentConfig`.
        spec: what Gymnasium knows of it, with the constructor's arguments.
        observation_space: of one environment.
        action_space: of one environment.
        max_episode_steps: steps after which an episode is cut off, or None.
    """

    kind: ClassVar[str] = "environment"

    config: EnvironmentConfig
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    def __init__(self, name: str, config: EnvironmentConfig) -> None:
        self.name = name
        self.config = config
        self.spec = copy.deepcopy(_find(name))
        self.spec.kwargs.update(config.env_kwarg)
        env, said = self._construct()
        for line in said:
            logger.warning("%s: %s", name, line)
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        limits = [layer._max_episode_steps for layer in _layers(env) if isinstance(layer, TimeLimit)]
        self.max_episode_steps: int | None = min(limits, default=None)
        for layer in _layers(env):
            if isinstance(layer, NormalizeObservation | NormalizeReward):
                logger.warning(
                    "%s has the wrapper %s, whose statistics evaluation environments do not share: "
                    "use --normalize-observations",
                    name,
                    type(layer).__name__,
                )
        env.close()

    @classmethod
    def config_class(cls, target: str) -> type[EnvironmentConfig]:
        """Return the options, which all environments share."""
        return EnvironmentConfig

    @classmethod
    def open(cls, target: str, config: Config, *, seed: int) -> Self:
        """Open an environment, and make one to learn its spaces.

        Args:
            target: a Gymnasium id, `module:Id` for one that a module registers, or the name of a plugin.
            config: an `EnvironmentConfig`.
            seed: not needed: nothing about the task itself is random.

        Raises:
            UnknownName: if there is none of that name, or not in that version.
            PluginError: if a package is missing or the environment cannot be made.
            UsageError: if its constructor does not take `env_kwarg`.
        """
        return cls(target, config if isinstance(config, EnvironmentConfig) else EnvironmentConfig())

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the plugins; what Gymnasium has is not known without importing it."""
        return _plugin_names()

    def make(self, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True) -> VectorEnv:
        """Return a vector of environments, each with a random stream of its own.

        Args:
            num_envs: how many.
            seeds: where the streams are spawned from; the first n of them do not depend on `num_envs`.
            keep_state: whether `state_dict` will be asked for; evaluation goes without.

        Raises:
            UsageError: for a space that cannot be batched.
        """
        return VectorEnv(self, num_envs, seeds, keep_state=keep_state)

    def make_one(self) -> Env:
        """Return one environment, not reset yet, with the wrappers that the options ask for.

        Raises:
            PluginError: if it cannot be made.
        """
        return self._construct()[0]

    def _construct(self) -> tuple[Env, list[str]]:
        """Return an environment, and what was said while it was made."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                limit = self.config.max_episode_steps
                env = gymnasium.make(self.spec, max_episode_steps=limit, disable_env_checker=True)
                if self.config.frame_stack:
                    env = FrameStackObservation(env, self.config.frame_stack)
            except Exception as error:  # noqa: BLE001 - a constructor may raise anything
                self._refuse(error)
        said = [_line(item.message) for item in caught if _is_for_users(item)]
        return env, list(dict.fromkeys(said))

    def _refuse(self, error: Exception) -> NoReturn:
        if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
            wanted = re.search(r"gymnasium\[([\w-]+)\]", str(error))
            hint = f'Install it: pip install "{_requirement(wanted[1])}"' if wanted else None
            cause = _line(error) if hint is None else _line(error).partition(", ")[0]
            raise PluginError(f"{self.name} needs a package that is missing: {cause}", hint) from error
        given = self.config.env_kwarg
        origin = error.__cause__ if isinstance(error.__cause__, TypeError) else error
        if not given:
            raise PluginError(f"{self.name} cannot be made: {type(origin).__name__}: {_line(origin)}") from error
        accepted = _parameters(self.spec)
        wrong = [key for key in given if accepted and key not in accepted]
        near = did_you_mean(wrong[0], accepted) if wrong else None
        takes = f"It takes {', '.join(accepted)}." if accepted else None
        raise UsageError(
            f"{self.name} cannot be made with --env-kwarg {' '.join(wrong or given)}: {_line(origin)}",
            " ".join(filter(None, [near, takes])) or None,
        ) from error


def _find(target: str) -> registration.EnvSpec:
    """Return the spec of an environment.

    Raises:
        UnknownName: if there is none of that name.
        PluginError: if the module or plugin that should have it cannot be imported.
    """
    plugin = target.partition("@")[0]
    if plugin in _plugin_names():
        if target in gymnasium.registry:
            hint = f"Say gymnasium:{target} for Gymnasium's, or {target}@DISTRIBUTION for the plugin's."
            raise PluginError(f"Gymnasium and a plugin both have an environment called {target!r}", hint)
        from rllab import plugins

        made: Any = plugins.load(PLUGIN_GROUP, target)
        return registration.EnvSpec(plugin, entry_point=made)
    module, _, name = target.rpartition(":")
    if module:
        _import(module, target)
    for start, (package, extra) in _FAMILIES.items():
        if name.startswith(start) and name not in gymnasium.registry:
            _import_family(name, package, extra)
    if name in gymnasium.registry:
        return _up_to_date(target, gymnasium.registry[name])
    try:
        namespace, base, version = registration.parse_env_id(name)
    except gymnasium.error.Error:
        raise UnknownName(EnvironmentTask.kind, target, gymnasium.registry) from None
    versions = [spec.id for spec in gymnasium.registry.values() if (spec.namespace, spec.name) == (namespace, base)]
    if versions and version is None:
        latest = registration.find_highest_version(namespace, base)
        spec = gymnasium.registry[registration.get_env_id(namespace, base, latest)]
        logger.warning("%s: taking the latest version, %s", target, spec.id)
        return spec
    if versions:
        raise UnknownName(EnvironmentTask.kind, target, (), f"There is {' and '.join(versions)}.")
    raise UnknownName(EnvironmentTask.kind, target, [*gymnasium.registry, *_plugin_names()])


def _up_to_date(target: str, spec: registration.EnvSpec) -> registration.EnvSpec:
    latest = registration.find_highest_version(spec.namespace, spec.name)
    if latest is not None and spec.version is not None and spec.version < latest:
        newer = registration.get_env_id(spec.namespace, spec.name, latest)
        logger.warning("%s is out of date: there is %s", target, newer)
    return spec


def _import(module: str, target: str) -> None:
    """Import a module that registers environments, also from the working folder, as `python -m` would."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except Exception as error:
        hint = f"It must be installed, or lie in the working folder {os.getcwd()}."
        raise PluginError(
            f"cannot import the module {module!r} of {target!r}: {type(error).__name__}: {_line(error)}",
            hint if isinstance(error, ModuleNotFoundError) else None,
        ) from error


def _import_family(name: str, package: str, extra: str) -> None:
    try:
        gymnasium.register_envs(importlib.import_module(package))
    except ImportError as error:
        hint = f'Install it: pip install "{_requirement(extra, package)}"'
        raise PluginError(f"{name} needs the package {package}: {_line(error)}", hint) from error


def _requirement(extra: str, package: str | None = None) -> str:
    """Return what to install for an extra: our own if there is one, else the package itself."""
    try:
        ours = metadata("rllab").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        ours = [extra]
    if extra in ours:
        return f"rllab[{extra}]"
    return package.replace("_", "-") if package else f"gymnasium[{extra}]"


def _parameters(spec: registration.EnvSpec) -> list[str]:
    """Return the names that the constructor of an environment takes, if that can be told."""
    try:
        entry: Any = spec.entry_point
        creator = registration.load_env_creator(entry) if isinstance(entry, str) else entry
        parameters = inspect.signature(creator).parameters.values()
    except (ImportError, AttributeError, TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind not in {2, 4}]


def _plugin_names() -> list[str]:
    from rllab import plugins

    return plugins.names(PLUGIN_GROUP)


def _layers(env: Env) -> Iterator[Env]:
    """Go through an environment's wrappers from the outside in, and end with the environment itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _is_for_users(warning: warnings.WarningMessage) -> bool:
    """Whether it is more than a word between the authors of libraries."""
    return "WARN: " in str(warning.message) or not issubclass(warning.category, DeprecationWarning)


def _line(error: BaseException | str) -> str:
    """Return the first line of a message, without colours."""
    text = re.sub(r"\x1b\[\d+m|WARN: ", "", str(error)).strip()
    return (text or type(error).__name__).partition("\n")[0]


# --- stepping -------------------------------------------------------------------------------------


class Episode(NamedTuple):
    """An episode that has ended: the sum of its raw rewards, and its number of steps."""

    return_: float
    length: int


class Transition(NamedTuple):
    """What one step of each environment led to; every row is a real step.

    Attributes:
        next_observations: (num_envs, *shape), the final one where an episode ended.
        rewards: (num_envs,) float32, as the environment gave them.
        terminated: (num_envs,) bool; no value lies beyond.
        truncated: (num_envs,) bool; cut off by a limit, and not terminated.
        episodes: those that ended at this step, in the order of their rows.
    """

    next_observations: Array
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    episodes: list[Episode]


class VectorEnv:
    """Several environments, stepped one after the other; one that ends is reset at once.

    Observations of Box, Discrete, MultiDiscrete and MultiBinary spaces are arrays of the space's dtype; those
    of Dict and Tuple spaces are dicts and tuples of such. No array is written to after it was handed out.

    Attributes:
        num_envs: how many environments.
        observation_space: of one environment.
        action_space: of one environment.
        observations: (num_envs, *shape), what to act on next; there after the first `reset`.
        restarted: episodes that had to begin again when a state was loaded, as theirs could not be kept.
        strategy: how states are kept (see `rllab.envstate`), or None.
    """

    observations: Array

    def __init__(
        self, task: EnvironmentTask, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True
    ) -> None:
        self.num_envs = num_envs
        self.observation_space = task.observation_space
        self.action_space = task.action_space
        self.restarted = 0
        self.strategy: Strategy | None = None
        self._task = task
        self._keep_state = keep_state
        self._seeds = [[int(word) for word in child.generate_state(2)] for child in seeds.spawn(num_envs)]
        self._envs: list[Env] = []
        self._steps: list[Callable[[Any], tuple[Any, Any, bool, bool, dict[str, Any]]]] = []
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs
        self._total = 0
        self._all = range(num_envs)
        self._is_array = isinstance(self.observation_space, Box | Discrete | MultiDiscrete | MultiBinary)
        self._is_float = isinstance(self.observation_space, Box) and self.observation_space.dtype.kind == "f"
        self._shape: tuple[int, ...] = self.observation_space.shape or ()
        self._dtype = self.observation_space.dtype
        self._is_discrete = isinstance(self.action_space, Discrete)
        self._action_dtype = self.action_space.dtype
        if not _can_batch(self.observation_space):
            raise UsageError(f"{task.name} has observations that make no batch: {self.observation_space}")

    @property
    def starts(self) -> npt.NDArray[np.bool_]:
        """Return where `observations` are the first of an episode: (num_envs,) bool."""
        return np.array([length == 0 for length in self._lengths])

    def reset(self) -> Array:
        """Begin new episodes everywhere; the first call seeds each environment.

        Returns:
            The observations: (num_envs, *shape).

        Raises:
            RunFailed: if an environment raises.
        """
        first = not self._envs
        if first:
            if self._keep_state:
                self.strategy = envstate.choose(self._task.make_one, self._seeds[0][0])
            self._open()
        observations: Array = self._empty(self.num_envs)
        for i in self._all:
            _put(observations, i, self._reset(i, self._seeds[i][0] if first else None))
        self.observations = observations
        return observations

    def step(self, actions: Any, active: Sequence[int] | None = None) -> Transition:
        """Step the environments.

        Args:
            actions: (num_envs, ...), in the environment's own terms.
            active: which environments to step, or None for all; the rows of the result are theirs alone.

        Raises:
            RunFailed: if an environment raises, or gives a reward or an observation that is not finite.
        """
        indices = self._all if active is None else active
        given = self._rows(actions)
        count = len(indices)
        batch: Any = self._empty(count)
        rewards: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        episodes: list[Episode] = []
        begun: list[int] = []
        returns, lengths = self._returns, self._lengths
        for row, i in enumerate(indices):
            try:
                observation, reward, ended, cut, _ = self._steps[i](given[i])
                if self._is_array:
                    batch[row] = observation
                else:
                    _put(batch, row, observation)
                reward = float(reward)
            except Exception as error:
                raise self._failure(error, self._where(i, lengths[i] + 1)) from error
            returns[i] += reward
            lengths[i] += 1
            ended = bool(ended)
            cut = bool(cut) and not ended
            rewards.append(reward)
            terminated.append(ended)
            truncated.append(cut)
            if ended or cut:
                episodes.append(Episode(returns[i], lengths[i]))
                begun.append(i)
        if not math.isfinite(sum(rewards)) or (self._is_float and not math.isfinite(np.vdot(batch, batch))):
            self._check_finite(batch, rewards, indices)
        self._total += count
        if active is None and not begun:
            self.observations = batch
        else:
            self._continue(batch, begun, active)
        return Transition(
            batch,
            np.array(rewards, np.float32),
            np.array(terminated, bool),
            np.array(truncated, bool),
            episodes,
        )

    def close(self) -> None:
        """Close the environments; `reset` makes new ones, with the same seeds."""
        envs, self._envs, self._steps = self._envs, [], []
        for env in envs:
            try:
                env.close()
            except Exception as error:  # noqa: BLE001 - what was trained is not lost to a window that will not close
                logger.warning("%s: closing it raised %s: %s", self._task.name, type(error).__name__, _line(error))

    def state_dict(self) -> State:
        """Return the state of all environments: plain data and arrays.

        Raises:
            UncapturedState: if they were made with `keep_state=False`.
        """
        if not self._keep_state:
            raise UncapturedState("these environments were made with keep_state=False")
        if self.strategy is None or not self._envs:
            return {"strategy": None}
        return {
            "strategy": self.strategy.name,
            "environments": [self.strategy.capture(env) for env in self._envs],
            "observations": _copy(self.observations),
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "total": self._total,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken; `restarted` says how many episodes have to begin again.

        The environments are made anew. No global generator moves.

        Raises:
            UncapturedState: if the state is of another number of environments.
        """
        self.close()
        self.restarted = 0
        if state["strategy"] is None:
            return
        if len(state["environments"]) != self.num_envs:
            raise UncapturedState(f"the state is of {len(state['environments'])} environments, not of {self.num_envs}")
        self.strategy = envstate.STRATEGIES[state["strategy"]]
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self._total = state["total"]
        observations = _copy(state["observations"])
        with preserved_globals():
            self._open()
            for i, snapshot in enumerate(state["environments"]):
                if not self._restore(i, snapshot):
                    _put(observations, i, self._restart(i))
        self.observations = observations

    def _open(self) -> None:
        self._envs = []
        self._steps = []
        for _, action_seed in self._seeds:
            env = self._task.make_one()
            env = self.strategy.wrap(env) if self.strategy else env
            env.action_space.seed(action_seed)
            self._envs.append(env)
            self._steps.append(env.step)

    def _restore(self, i: int, snapshot: State) -> bool:
        assert self.strategy is not None
        try:
            return self.strategy.restore(self._envs[i], snapshot, self._seeds[i][0])
        except Exception as error:  # noqa: BLE001 - an episode that cannot go on begins again
            logger.warning("%s: its state could not be set: %s", self._task.name, _line(error))
            return False

    def _restart(self, i: int) -> Any:
        """Begin a new episode in a new environment i, other than those it has already had."""
        assert self.strategy is not None
        self._envs[i].close()
        self._envs[i] = self.strategy.wrap(self._task.make_one())
        seed, action_seed = (
            int(word) for word in np.random.SeedSequence([*self._seeds[i], self._total]).generate_state(2)
        )
        self._envs[i].action_space.seed(action_seed)
        self._steps[i] = self._envs[i].step
        self.restarted += 1
        return self._reset(i, seed)

    def _reset(self, i: int, seed: int | None = None) -> Any:
        self._returns[i], self._lengths[i] = 0.0, 0
        try:
            observation, _ = self._envs[i].reset(seed=seed)
        except Exception as error:
            raise self._failure(error, f"environment {i} of {self.num_envs}, at a reset") from error
        if self._is_array and np.shape(observation) != self._shape:
            raise RunFailed(
                f"{self._task.name} gave an observation of shape {np.shape(observation)}; its space says {self._shape}"
            )
        return observation

    def _rows(self, actions: Any) -> Any:
        """Return one action for each environment, as it takes them: Python's own integers for Discrete."""
        if self._is_discrete:
            rows = actions.tolist() if isinstance(actions, np.ndarray) else [int(action) for action in actions]
        else:
            # a copy, so that no environment can change what its caller has stored
            rows = actions if self._action_dtype is None else np.array(actions, self._action_dtype)
        if len(rows) != self.num_envs:
            raise ValueError(f"{len(rows)} actions for {self.num_envs} environments")
        return rows

    def _continue(self, batch: Any, begun: list[int], active: Sequence[int] | None) -> None:
        """Set the observations to act on: those of the step, and the first ones of new episodes."""
        observations = _copy(batch if active is None else self.observations)
        if active is not None:
            for row, i in enumerate(active):
                _put(observations, i, _row(batch, row))
        for i in begun:
            _put(observations, i, self._reset(i))
        self.observations = observations

    def _empty(self, count: int) -> Any:
        if self._is_array:
            return np.empty((count, *self._shape), self._dtype)
        return create_empty_array(self.observation_space, count, np.empty)

    def _check_finite(self, batch: Any, rewards: list[float], indices: Sequence[int]) -> None:
        for row, i in enumerate(indices):
            for what, value in (
                ("a reward", rewards[row]),
                ("an observation", batch[row] if self._is_float else 0.0),
            ):
                if not np.isfinite(value).all():
                    where = self._where(i, self._lengths[i])
                    raise RunFailed(f"{self._task.name} ({where}) gave {what} that is not finite: {value}")

    def _where(self, i: int, step: int) -> str:
        return f"environment {i} of {self.num_envs}, step {step} of its episode"

    def _failure(self, error: Exception, where: str) -> RunFailed:
        return RunFailed(f"{self._task.name} ({where}) raised {type(error).__name__}: {_line(error)}")


def _can_batch(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, Dict | Tuple):
        parts = space.spaces.values() if isinstance(space, Dict) else space.spaces
        return all(map(_can_batch, parts))
    return isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary)


def _put(batch: Any, row: int, observation: Any) -> None:
    """Copy one observation into a row of a batch."""
    if isinstance(batch, np.ndarray):
        batch[row] = observation
    else:
        for key in batch if isinstance(batch, dict) else range(len(batch)):
            _put(batch[key], row, observation[key])


def _row(batch: Any, row: int) -> Any:
    if isinstance(batch, dict):
        return {key: _row(part, row) for key, part in batch.items()}
    return tuple(_row(part, row) for part in batch) if isinstance(batch, tuple) else batch[row]


def _copy(batch: Any) -> Any:
    return batch.copy() if isinstance(batch, np.ndarray) else copy.deepcopy(batch)


# --- evaluation -----------------------------------------------------------------------------------


def evaluate_episodes(
    envs: VectorEnv,
    act: Callable[[Array, npt.NDArray[np.bool_]], Any],
    episodes: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Play whole episodes, and measure them by raw rewards.

    Each environment has a fixed share (environment i of n plays the episodes i, i + n, ...): taking the first
    `episodes` that end would favour short ones. One that has played its share is no longer stepped.

    Args:
        envs: environments of their own, with seeds of their own; they are reset first.
        act: takes observations (num_envs, *shape) and where they begin an episode, (num_envs,) bool; returns
            actions (num_envs, ...).
        episodes: how many.
        check: called before each step; may raise to interrupt.

    Returns:
        Returns (episodes,) and lengths (episodes,), in the order of the episodes.

    Raises:
        RunFailed: if an environment raises.
    """
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, np.int64)
    upcoming = list(range(envs.num_envs))
    active = upcoming[:episodes]
    if active:
        envs.reset()
    starts = np.ones(envs.num_envs, bool)
    while active:
        check()
        transition = envs.step(act(envs.observations, starts), active)
        ended = np.flatnonzero(transition.terminated | transition.truncated).tolist()
        starts = np.zeros(envs.num_envs, bool)
        finished = [active[row] for row in ended]
        for i, episode in zip(finished, transition.episodes, strict=True):
            returns[upcoming[i]], lengths[upcoming[i]] = episode
            upcoming[i] += envs.num_envs
            starts[i] = True
        if finished:
            active = [i for i in active if upcoming[i] < episodes]
    return returns, lengths
