"""The state of one environment, so that a resumed run goes on in the middle of an episode.

In: an environment with its wrappers. Out: a snapshot of plain data that a checkpoint can hold, and the
environment back from it. Gymnasium has no such thing, so there are four ways, tried in this order:

| strategy | what is kept |
|---|---|
| own | the environment's own `state_dict()`, and the plain attributes of its wrappers |
| attributes | the plain attributes of the environment and its wrappers |
| replay | the attributes right before the episode's reset, the seed of that reset, and the actions since |
| restart | nothing: the episode starts again, and the caller is told |

The first that proves exact is taken: `choose` steps a copy for a while, brings a fresh copy to its state, and
compares what both do next, bit for bit and across a reset. The trial is counted in steps, so that the same seed
gives the same run on a slow machine and on a fast one. An environment so slow that a trial exceeds
`TRIAL_SECONDS` gets "restart", with a warning: half a proof is none, and no other way would be quicker.
"""

from __future__ import annotations

import copy
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar, TypeAlias

import gymnasium
import numpy as np

from rllab.seeding import global_state, preserved_globals, set_global_state
from rllab.snapshot import Snapshot, generators, read, write
from rllab.state import Stateful, generator_state, set_generator_state

Env: TypeAlias = gymnasium.Env[Any, Any]

TRIAL_STEPS = 200
"""Steps for which a restored copy is compared with the original."""
TRIAL_SECONDS = 60.0
"""Time after which a trial is given up; only a protection, which common environments stay below a hundredfold."""

logger = logging.getLogger("rllab")


# --- strategies -----------------------------------------------------------------------------------


class Strategy(ABC):
    """A way to keep the state of one environment."""

    name: ClassVar[str]

    def wrap(self, env: Env) -> Env:
        """Return the environment as it must be stepped, so that its state can be kept."""
        return env

    def applies(self, env: Env) -> bool:
        """Whether this way can be tried on `env` at all."""
        return True

    @abstractmethod
    def capture(self, env: Env) -> Snapshot:
        """Return the state of `env`, a wrapped one: plain data that shares nothing with it."""

    @abstractmethod
    def restore(self, env: Env, snapshot: Snapshot, seed: int) -> bool:
        """Bring a freshly made environment to a captured state.

        Args:
            env: just made and wrapped, never reset.
            snapshot: from `capture`.
            seed: that of the first reset of the environment that was captured.

        Returns:
            Whether it is there; if not, `env` is of no further use.
        """


class Attributes(Strategy):
    """The plain attributes of the environment and its wrappers."""

    name = "attributes"

    def capture(self, env: Env) -> Snapshot:
        """Return the attributes of `env` and of all that it holds."""
        return write(env)

    def restore(self, env: Env, snapshot: Snapshot, seed: int) -> bool:
        """Reset `env` for what attributes do not tell, then set them."""
        env.reset(seed=seed)
        return read(snapshot, env)[1]


class Own(Attributes):
    """The environment's own `state_dict()`, and the plain attributes of its wrappers."""

    name = "own"

    def applies(self, env: Env) -> bool:
        """Whether the environment keeps its own state."""
        return isinstance(env.unwrapped, Stateful)

    def capture(self, env: Env) -> Snapshot:
        """Return the attributes of the wrappers of `env`, and the own state of what they wrap."""
        return write(env, own=env.unwrapped)


class Replay(Strategy):
    """The state before the episode's reset, the seed of that reset, and the actions since."""

    name = "replay"

    def wrap(self, env: Env) -> Env:
        """Return `env` with a record of its episode."""
        return Recorder(env)

    def capture(self, env: Env) -> Snapshot:
        """Return the record of the episode and its last observation."""
        assert isinstance(env, Recorder)
        # a checkpoint holds one array better than many
        are_arrays = bool(env.actions) and isinstance(env.actions[0], np.ndarray)
        actions = np.array(env.actions) if are_arrays else env.actions
        return {"before": env.before, "record": write([env.seed, actions, env.last, env.seeds])}

    def restore(self, env: Env, snapshot: Snapshot, seed: int) -> bool:
        """Go through the episode again; exact if it ends with the same observation."""
        assert isinstance(env, Recorder)
        read(snapshot["before"], env.env)
        (episode_seed, actions, last, seeds), _ = read(snapshot["record"], None)
        env.reset(seed=episode_seed)
        for action in actions:
            env.step(action)
        env.before = snapshot["before"]
        env.seeds = seeds
        return same(env.last, last)


class Restart(Strategy):
    """Nothing is kept: the episode starts again."""

    name = "restart"

    def capture(self, env: Env) -> Snapshot:
        """Return nothing."""
        return {}

    def restore(self, env: Env, snapshot: Snapshot, seed: int) -> bool:
        """Say that the state is lost."""
        return False


STRATEGIES: dict[str, Strategy] = {way.name: way for way in (Own(), Attributes(), Replay(), Restart())}


class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Remembers an episode. Every reset is seeded: some environments keep their generator to themselves."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.seeds = np.random.default_rng(0)
        self.seed = 0
        self.before: Snapshot = {}
        self.actions: list[Any] = []
        self.last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset with `seed`, or with the next one of the stream that the last given seed began."""
        if seed is not None:
            self.seeds = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self.seed = int(self.seeds.integers(2**32)) if seed is None else seed
        self.before = write(self.env)
        self.actions = []
        observation, info = self.env.reset(seed=self.seed, options=options)
        self.last = observation
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and remember the action."""
        self.actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        result = self.env.step(action)
        self.last = result[0]
        return result


# --- the choice -----------------------------------------------------------------------------------


class _TooSlow(Exception):
    """A trial took longer than `TRIAL_SECONDS`."""


def choose(make: Callable[[], Env], seed: int) -> Strategy:
    """Return the first strategy that proves exact on copies of an environment.

    Two copies are made for each strategy that is tried and closed again. No global generator moves.

    Args:
        make: makes the environment.
        seed: for the copies' episodes and actions.
    """
    *strategies, restart = STRATEGIES.values()
    for strategy in strategies:
        with preserved_globals():
            try:
                if _proves_exact(strategy, make, seed):
                    return strategy
            except _TooSlow:
                logger.warning(
                    "the environment is too slow to prove how its state is kept (%s steps took more than %.0f s): "
                    "when the run is resumed, its episodes begin again",
                    TRIAL_STEPS,
                    TRIAL_SECONDS,
                )
                break
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises here, another way may work
                logger.debug("environment state by %s: %s: %s", strategy.name, type(error).__name__, error)
    return restart


def _proves_exact(strategy: Strategy, make: Callable[[], Env], seed: int) -> bool:
    """Whether a copy brought to the state of another one then does the same as that."""
    with closing(strategy.wrap(make())) as original, _untouched_generators(original):
        if not strategy.applies(original):
            return False
        space = copy.deepcopy(original.action_space)
        space.seed(seed)
        actions = [_as_given(space.sample()) for _ in range(TRIAL_STEPS)]
        deadline = time.monotonic() + TRIAL_SECONDS
        original.reset(seed=seed)
        _warm_up(original, actions[::-1], deadline)
        snapshot, random_states = strategy.capture(original), global_state()
        expected = _trace(original, actions, deadline)
    with closing(strategy.wrap(make())) as restored, _untouched_generators(restored):
        if not strategy.restore(restored, snapshot, seed):
            return False
        set_global_state(random_states)
        return same(_trace(restored, actions, deadline), expected)


@contextmanager
def _untouched_generators(env: Env) -> Iterator[None]:
    """Put generators back at the end: an environment may share one with its module, so with the training."""
    before = [(generator, generator_state(generator)) for generator in generators(env)]
    try:
        yield
    finally:
        for generator, state in before:
            set_generator_state(generator, state)


def _warm_up(env: Env, actions: list[Any], deadline: float) -> None:
    """Go to the middle of an episode that is not the first one."""
    for action in actions[:50]:
        _, _, terminated, truncated, _ = env.step(action)
        _check_time(deadline)
        if terminated or truncated:
            break
    env.reset()
    for action in actions[50:55]:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()


def _trace(env: Env, actions: list[Any], deadline: float) -> list[tuple[Any, ...]]:
    """Return what an environment in the middle of an episode answers to actions, and to a last reset."""
    answers: list[tuple[Any, ...]] = []
    for i, action in enumerate(actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        answer: tuple[Any, ...] = (copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated))
        if terminated or truncated or i == TRIAL_STEPS * 3 // 4:
            answer += (copy.deepcopy(env.reset()[0]),)
        answers.append(answer)
        _check_time(deadline)
    return [*answers, (copy.deepcopy(env.reset()[0]),)]


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _TooSlow


def _as_given(action: Any) -> Any:
    """Return an action as the vector env gives it: Python numbers for numbers."""
    return action.item() if isinstance(action, np.integer) else action


def same(x: Any, y: Any) -> bool:
    """Whether two observations, or lists and dicts of such, agree bit for bit."""
    if isinstance(x, dict) and isinstance(y, dict):
        return x.keys() == y.keys() and all(same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple) and isinstance(y, list | tuple):
        return len(x) == len(y) and all(map(same, x, y))
    a, b = np.asarray(x), np.asarray(y)
    if a.dtype.hasobject:
        return bool(x == y)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
