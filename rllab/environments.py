"""Environments to train on: from the id that a user wrote to something that makes environments.

In: a Gymnasium id, `module:Id`, or the name of a plugin (entry-point group `rllab.envs`), and options. Out: an
`EnvironmentTask` that knows the spaces and makes a `VectorEnv` of any size, or an error that says what to do.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import logging
import os
import re
import sys
import warnings
from importlib.metadata import metadata
from typing import Any, ClassVar, Literal, NoReturn, Self

import gymnasium
import numpy as np
from gymnasium.envs import registration
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from pydantic import NonNegativeInt, PositiveInt, field_validator

from rllab import backends, plugins, wrapping
from rllab.config import Config
from rllab.envstate import Env
from rllab.errors import PluginError, RllabError, UnknownName, UsageError, did_you_mean, one_line
from rllab.task import Task, check_kind
from rllab.vectorenv import VectorEnv

PLUGIN_GROUP = "rllab.envs"
_FAMILIES = {"ALE/": ("ale_py", "atari"), "MiniGrid-": ("minigrid", "minigrid"), "BabyAI-": ("minigrid", "minigrid")}
"""Ids that a module registers when it is imported: how they begin, the module, and the extra of ours that brings it."""

_HINT = "Environments are Gymnasium's, such as CartPole-v1; `rllab list` says what learns datasets and texts."

logger = logging.getLogger("rllab")


class EnvironmentConfig(Config):
    """Options of every environment."""

    max_episode_steps: PositiveInt | None = None
    """Steps after which an episode is cut off; none: the environment's own limit."""

    env_kwarg: dict[str, Any] = {}
    """KEY=VALUE for the environment's constructor; may be repeated. Values are read as JSON, else as text."""

    frame_stack: NonNegativeInt = 0
    """How many of the last observations are stacked into one; 0 for none (for Atari games: 4)."""

    atari_preprocessing: Literal["auto", "none"] = "auto"
    """For Atari games (auto): 84 x 84 grey pixels, 4 frames an action, at most 30 idle frames at the start, and
    4 frames stacked; none: as the game gives them."""

    env_wrapper: tuple[str, ...] = ()
    """MODULE:CLASS of a Gymnasium wrapper to put around it, the innermost first, below stacked frames."""

    env_backend: Literal["auto", "loop", "native", "workers"] = "auto"
    """What steps several environments: a loop in this process, a native vector (one written in NumPy for all of them),
    or worker processes, for steps of milliseconds. auto takes a native vector where it is measured faster, else the
    loop. Evaluations always take the loop."""

    @field_validator("env_kwarg", mode="before")
    @classmethod
    def _read_pairs(cls, value: Any) -> Any:
        if isinstance(value, str | list | tuple):
            texts = [value] if isinstance(value, str) else value
            pairs = [pair for text in texts for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", str(text))]
            return dict(map(_pair, (pair for pair in pairs if pair not in {"", "none"})))
        return _with_none(value) if value else {}


def _with_none(value: Any) -> Any:
    """Return a value with every "none" in it as None: TOML has no null."""
    if isinstance(value, dict):
        return {key: _with_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_none(item) for item in value]
    return None if value == "none" else value


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
        metadata: what the environment says of itself, such as its `render_modes`.
        backend: what `--env-backend auto` came to in the run that is resumed, or None.
    """

    kind: ClassVar[str] = "environment"

    config: EnvironmentConfig
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    def __init__(self, name: str, config: EnvironmentConfig) -> None:
        self.name = name
        self.config = config
        self.backend: backends.Backend | None = None
        self.spec = copy.deepcopy(_find(name))
        self.spec.kwargs.update(config.env_kwarg)
        wrapping.prepare(self.spec, config)
        env, said = self._construct()
        for line in said:
            logger.warning("%s: %s", name, line)
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self.metadata: dict[str, Any] = dict(env.metadata)
        self.max_episode_steps = wrapping.limit(env, self.spec, config)
        layer = env
        while isinstance(layer, gymnasium.Wrapper):
            if isinstance(layer, NormalizeObservation | NormalizeReward):
                logger.warning(
                    "%s has the wrapper %s, whose statistics evaluation environments do not share: "
                    "use --normalize-observations",
                    name,
                    type(layer).__name__,
                )
            layer = layer.env
        env.close()
        if config.env_backend == "native":
            backends.check_native(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process by name and options: what made it there makes it here."""
        return type(self), (self.name, self.config)

    @property
    def way_out(self) -> str | None:
        """Return what makes arrays of the observations if they are none, for whom that is a reason to be refused."""
        return wrapping.way_out(self.spec, self.observation_space)

    @property
    def wrappers(self) -> list[str]:
        """Return what is put around each single environment, in words: its own wrappers, and those of the options."""
        return wrapping.names(self.spec, self.config)

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
            UsageError: if it is no environment but something else, or its constructor does not take `env_kwarg`.
        """
        return cls(target, config if isinstance(config, EnvironmentConfig) else EnvironmentConfig())

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the plugins; what Gymnasium has is not known without importing it."""
        return plugins.names(PLUGIN_GROUP)

    def make(
        self, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True, partly: bool = False
    ) -> VectorEnv:
        """Return a vector of environments.

        Args:
            num_envs: how many.
            seeds: where the random streams are spawned from; in the loop each environment has one of its own, and the
                first n of them do not depend on `num_envs`.
            keep_state: whether `state_dict` will be asked for; evaluation goes without, and by the loop.
            partly: whether some will be stepped while others wait.

        Raises:
            UsageError: for a space that cannot be batched, or an `--env-backend` that cannot be had.
        """
        backend: backends.Backend = backends.resolve(self, num_envs, partly=partly) if keep_state else "loop"
        return backends.make(self, backend, num_envs, seeds, keep_state=keep_state)

    def make_one(self, *, render_mode: str | None = None) -> Env:
        """Return one environment, not reset yet, with the wrappers that the options ask for.

        Args:
            render_mode: what its `render` is to return, one of `metadata["render_modes"]`; None: nothing.

        Raises:
            PluginError: if it cannot be made.
        """
        return self._construct(render_mode)[0]

    def _construct(self, render_mode: str | None = None) -> tuple[Env, list[str]]:
        """Return an environment, and what was said while it was made."""
        rendering = {} if render_mode is None else {"render_mode": render_mode}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                env = wrapping.make(self.spec, self.config, **rendering)
            except RllabError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a constructor may raise anything
                self._refuse(error)
        said = [one_line(str(item.message).replace("WARN: ", "")) for item in caught if _is_for_users(item)]
        return env, list(dict.fromkeys(said))

    def _refuse(self, error: BaseException) -> NoReturn:
        if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
            raise missing_package(self.name, error) from error
        given = self.config.env_kwarg
        origin = error.__cause__ if isinstance(error.__cause__, TypeError) else error
        if not given:
            raise PluginError(f"{self.name} cannot be made: {type(origin).__name__}: {one_line(origin)}") from error
        accepted = _parameters(self.spec)
        wrong = [key for key in given if accepted and key not in accepted]
        near = did_you_mean(wrong[0], accepted) if wrong else None
        takes = f"It takes {', '.join(accepted)}." if accepted else None
        raise UsageError(
            f"{self.name} cannot be made with --env-kwarg {' '.join(wrong or given)}: {one_line(origin)}",
            " ".join(filter(None, [near, takes])) or None,
        ) from error


def missing_package(name: str, error: BaseException) -> PluginError:
    """Return what to say when an environment raised that a package is missing: how to install it."""
    cause, wanted = one_line(error), re.search(r"gymnasium\[([\w-]+)\]", str(error))
    family = next((extra for start, (_, extra) in _FAMILIES.items() if name.rpartition(":")[2].startswith(start)), None)
    extra = family or (wanted[1] if wanted else None)
    if extra is None:
        return PluginError(f"{name} needs a package that is missing: {cause}")
    brings = "rllab" if extra in (metadata("rllab").get_all("Provides-Extra") or ()) else "gymnasium"
    return PluginError(
        f"{name} needs a package that is missing: {cause.partition(', ')[0]}",
        f'Install it: pip install "{brings}[{extra}]"',
    )


def _find(target: str) -> registration.EnvSpec:
    """Return the spec of an environment.

    Raises:
        UnknownName: if there is none of that name.
        UsageError: if it is the name of something else.
        PluginError: if the module or plugin that should have it cannot be imported.
    """
    plugin = target.partition("@")[0]
    if plugin in plugins.names(PLUGIN_GROUP):
        if target in gymnasium.registry:
            hint = f"Say gymnasium:{target} for Gymnasium's, or {target}@DISTRIBUTION for the plugin's."
            raise PluginError(f"Gymnasium and a plugin both have an environment called {target!r}", hint)
        made: Any = plugins.load(PLUGIN_GROUP, target)
        return registration.EnvSpec(
            plugin,
            entry_point=made,
            max_episode_steps=getattr(made, "max_episode_steps", None),
            vector_entry_point=getattr(made, "vector_entry_point", None),
        )
    module, _, name = target.rpartition(":")
    if module:
        if not {"", os.getcwd()} & set(sys.path):
            sys.path.insert(0, os.getcwd())  # as `python -m` would
        _import(module, target, f"It must be installed, or lie in the working folder {os.getcwd()}.")
    for start, (family, extra) in _FAMILIES.items():
        if name.startswith(start) and name not in gymnasium.registry:
            _import(family, target, f'Install it: pip install "rllab[{extra}]"')
    if name in gymnasium.registry:
        return _up_to_date(target, gymnasium.registry[name])
    check_kind(target, EnvironmentTask.kind, _HINT)
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
    raise UnknownName(EnvironmentTask.kind, target, [*gymnasium.registry, *plugins.names(PLUGIN_GROUP)])


def is_registered(target: str) -> bool:
    """Return whether Gymnasium knows an id, or a package would register it; nothing is imported for that."""
    name = target.rpartition(":")[2]
    return name in gymnasium.registry or (name.startswith(tuple(_FAMILIES)) and bool(re.search(r"-v\d+$", name)))


def _up_to_date(target: str, spec: registration.EnvSpec) -> registration.EnvSpec:
    latest = registration.find_highest_version(spec.namespace, spec.name)
    if latest is not None and spec.version is not None and spec.version < latest:
        newer = registration.get_env_id(spec.namespace, spec.name, latest)
        logger.warning("%s is out of date: there is %s", target, newer)
    return spec


def _import(module: str, target: str, hint: str) -> None:
    """Import a module that registers environments."""
    try:
        importlib.import_module(module)
    except Exception as error:
        raise PluginError(
            f"cannot import the module {module!r} of {target!r}: {type(error).__name__}: {one_line(error)}",
            hint if isinstance(error, ModuleNotFoundError) else None,
        ) from error


def _parameters(spec: registration.EnvSpec) -> list[str]:
    """Return the names that the constructor of an environment takes, if that can be told."""
    try:
        entry: Any = spec.entry_point
        creator = registration.load_env_creator(entry) if isinstance(entry, str) else entry
        parameters = inspect.signature(creator).parameters.values()
    except (ImportError, AttributeError, TypeError, ValueError):
        return []
    return [item.name for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]


def _is_for_users(warning: warnings.WarningMessage) -> bool:
    """Whether it is more than a word between the authors of libraries."""
    return "WARN: " in str(warning.message) or not issubclass(warning.category, DeprecationWarning)
