"""Several environments stepped as one, with one meaning whatever they are.

In: what makes one environment (an `EnvironmentTask`), how many, and a seed. Out: a `VectorEnv` that gives true final
observations and no row that is not a real step, and whose state a checkpoint can hold; and whole episodes measured.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector.utils import create_empty_array

from rllab import envstate
from rllab.envstate import Env, Strategy
from rllab.errors import RunFailed, UsageError, one_line
from rllab.seeding import preserved_globals
from rllab.state import State, UncapturedState

Array: TypeAlias = npt.NDArray[Any]

logger = logging.getLogger("rllab")

FAULTS = (Exception, SystemExit)
"""What counts as a fault of an environment: also that it wants to end the program, as pygame's do."""


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


class EnvSource(Protocol):
    """What makes environments that are all alike; an `EnvironmentTask` is one."""

    name: str
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    def make_one(self) -> Env:
        """Return one environment, not reset yet."""
        ...


class VectorEnv:
    """Several environments, stepped one after the other; one that ends is reset at once.

    This is the loop; other backends are subclasses with the same meaning (`rllab.backends`).

    Observations of Box, Discrete, MultiDiscrete and MultiBinary spaces are arrays of the space's dtype; those
    of Dict and Tuple spaces are dicts and tuples of such. No array is written to after it was handed out.

    Args:
        source: what makes them.
        num_envs: how many.
        seeds: where their random streams are spawned from; the first n of them do not depend on `num_envs`.
        keep_state: whether `state_dict` will be asked for.

    Attributes:
        num_envs: how many environments.
        observation_space: of one environment.
        action_space: of one environment.
        observations: (num_envs, *shape), what to act on next; there after the first `reset`.
        restarted: episodes that had to begin again when a state was loaded, as theirs could not be kept.
        strategy: how states are kept (see `rllab.envstate`), or None.

    Raises:
        UsageError: for a space that cannot be batched.
    """

    backend: ClassVar[str] = "loop"
    """What steps them; see `rllab.backends`."""

    observations: Array

    def __init__(
        self, source: EnvSource, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True
    ) -> None:
        self.num_envs = num_envs
        self.observation_space = source.observation_space
        self.action_space = source.action_space
        self.restarted = 0
        self.strategy: Strategy | None = None
        self._source = source
        self._keep_state = keep_state
        self._seeds = [two_seeds(child) for child in seeds.spawn(num_envs)]  # of the environment, of its action space
        self._envs: list[Env] = []
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs
        self._total = 0
        self._all = range(num_envs)
        self._first, self._of = 0, num_envs  # where these are a part of more: what messages call them
        self._is_array = isinstance(self.observation_space, Box | Discrete | MultiDiscrete | MultiBinary)
        self._is_float = isinstance(self.observation_space, Box) and self.observation_space.dtype.kind == "f"
        self._shape: tuple[int, ...] = self.observation_space.shape or ()
        self._is_discrete = isinstance(self.action_space, Discrete)
        if not _can_batch(self.observation_space):
            hint = getattr(source, "way_out", None)
            raise UsageError(f"{source.name} has observations that make no batch: {self.observation_space}", hint)

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
            if self._keep_state and self.strategy is None:
                self.strategy = envstate.choose(self._source.make_one, self._seeds[0][0])
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
        envs, returns, lengths = self._envs, self._returns, self._lengths
        for row, i in enumerate(indices):
            try:
                observation, reward, ended, cut, _ = envs[i].step(given[i])
                if self._is_array:
                    if np.shape(observation) != self._shape:
                        raise ValueError(f"observation of shape {np.shape(observation)}, not {self._shape}")
                    batch[row] = observation
                else:
                    _put(batch, row, observation)
                reward = float(reward)
            except FAULTS as error:
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
            batch, np.array(rewards, np.float32), np.array(terminated, bool), np.array(truncated, bool), episodes
        )

    def close(self) -> None:
        """Close the environments; `reset` makes new ones, with the same seeds."""
        envs, self._envs = self._envs, []
        for env in envs:
            try:
                env.close()
            except FAULTS as error:  # what was trained is not lost to a window that will not close
                name, kind = self._source.name, type(error).__name__
                logger.warning("%s: closing it raised %s: %s", name, kind, one_line(error))

    # --- state ------------------------------------------------------------------------------------

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
            "backend": self.backend,
            "strategy": self.strategy.name,
            "environments": [self.strategy.capture(env) for env in self._envs],
            "observations": copy.deepcopy(self.observations),
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
        self._check_state(state, "loop", len(state["lengths"]))
        self.strategy = envstate.STRATEGIES[state["strategy"]]
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self._total = state["total"]
        observations = copy.deepcopy(state["observations"])
        with preserved_globals():
            self._open()
            for i, snapshot in enumerate(state["environments"]):
                if not self._restore(i, snapshot):
                    _put(observations, i, self._restart(i))
        self.observations = observations

    def _check_state(self, state: State, kind: str, num_envs: int) -> None:
        """Raise UncapturedState for the state of another backend, or of another number of environments."""
        if (theirs := state.get("backend", "loop")) != kind:
            raise UncapturedState(f"the state is of environments stepped by --env-backend {theirs}, not {kind}")
        if num_envs != self.num_envs:
            raise UncapturedState(f"the state is of {num_envs} environments, not of {self.num_envs}")

    def _restore(self, i: int, snapshot: State) -> bool:
        assert self.strategy is not None
        try:
            return self.strategy.restore(self._envs[i], snapshot, self._seeds[i][0])
        except FAULTS as error:  # an episode that cannot go on begins again
            logger.warning("%s: its state could not be set: %s", self._source.name, one_line(error))
            return False

    def _restart(self, i: int) -> Any:
        """Begin a new episode in a new environment i, other than those it has already had."""
        self._envs[i].close()
        seed, action_seed = two_seeds(np.random.SeedSequence([*self._seeds[i], self._total]))
        self._envs[i] = self._make(action_seed)
        self.restarted += 1
        return self._reset(i, seed)

    # --- parts of a reset and of a step -----------------------------------------------------------

    def _open(self) -> None:
        self._envs = [self._make(action_seed) for _, action_seed in self._seeds]

    def _make(self, action_seed: int) -> Env:
        env = self._source.make_one()
        env = self.strategy.wrap(env) if self.strategy else env
        env.action_space.seed(action_seed)
        return env

    def _reset(self, i: int, seed: int | None = None) -> Any:
        self._returns[i], self._lengths[i] = 0.0, 0
        try:
            observation, _ = self._envs[i].reset(seed=seed)
        except FAULTS as error:
            raise self._failure(error, self._at_reset(i)) from error
        if self._is_array and np.shape(observation) != self._shape:
            shape, name = np.shape(observation), self._source.name
            raise RunFailed(f"{name} gave an observation of shape {shape}; its space says {self._shape}")
        if self._is_float and not np.isfinite(observation).all():
            raise self._not_finite("an observation", observation, self._at_reset(i))
        return observation

    def _rows(self, actions: Any) -> Any:
        """Return one action for each environment, as it takes them: Python's own integers for Discrete."""
        if self._is_discrete:
            rows = np.asarray(actions).tolist()
        elif self.action_space.dtype is None:
            rows = actions
        else:
            # a copy, so that no environment can change what its caller has stored
            rows = np.array(actions, self.action_space.dtype)
        if len(rows) != self.num_envs:
            raise ValueError(f"{len(rows)} actions for {self.num_envs} environments")
        return rows

    def _continue(self, batch: Any, begun: list[int], active: Sequence[int] | None) -> None:
        """Set the observations to act on: those of the step, and the first ones of new episodes."""
        before = batch if active is None else self.observations
        observations = before.copy() if self._is_array else copy.deepcopy(before)
        if active is not None:
            for row, i in enumerate(active):
                _put(observations, i, _row(batch, row))
        for i in begun:
            _put(observations, i, self._reset(i))
        self.observations = observations

    def _empty(self, count: int) -> Any:
        if self._is_array:  # not by `create_empty_array`, which takes several times as long
            return np.empty((count, *self._shape), self.observation_space.dtype)
        return create_empty_array(self.observation_space, count, np.empty)

    def _check_finite(self, batch: Any, rewards: list[float], indices: Sequence[int]) -> None:
        for row, i in enumerate(indices):
            found = {"a reward": rewards[row], "an observation": batch[row] if self._is_float else 0.0}
            for what, value in found.items():
                if not np.isfinite(value).all():
                    raise self._not_finite(what, value, self._where(i, self._lengths[i]))

    def _at_reset(self, i: int) -> str:
        return f"environment {self._first + i} of {self._of}, at a reset"

    def _where(self, i: int, step: int) -> str:
        return f"environment {self._first + i} of {self._of}, step {step} of its episode"

    def _not_finite(self, what: str, value: Any, where: str) -> RunFailed:
        return RunFailed(f"{self._source.name} ({where}) gave {what} that is not finite: {value}")

    def _failure(self, error: BaseException, where: str) -> RunFailed:
        return RunFailed(f"{self._source.name} ({where}) raised {type(error).__name__}: {one_line(error)}")


def two_seeds(sequence: np.random.SeedSequence) -> tuple[int, int]:
    """Return a seed for an environment, and one for its action space."""
    first, second = sequence.generate_state(2).tolist()
    return first, second


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
    envs.reset()
    while active:
        check()
        transition = envs.step(act(envs.observations, envs.starts), active)
        ended = np.flatnonzero(transition.terminated | transition.truncated)
        for row, episode in zip(ended, transition.episodes, strict=True):
            i = active[row]
            returns[upcoming[i]], lengths[upcoming[i]] = episode
            upcoming[i] += envs.num_envs
        active = [i for i in active if upcoming[i] < episodes]
    return returns, lengths
