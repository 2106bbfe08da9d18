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
compares what both do next, bit for bit and across a reset.
"""

from __future__ import annotations

import copy
import enum
import logging
import math
import random
import sys
import time
import types
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rllab import state as state_of
from rllab.seeding import global_state, preserved_globals, set_global_state
from rllab.state import ObjectState, Stateful, generator_state, is_generator, set_generator_state

Env: TypeAlias = gymnasium.Env[Any, Any]
Snapshot: TypeAlias = dict[str, Any]

TRIAL_STEPS = 200
"""Steps for which a restored copy is compared with the original."""
TRIAL_SECONDS = 0.5
"""Time that the original may take for its part of a trial; the restored copy takes as long again."""

_MISSING = object()
_LEAVES = (type(None), bool, int, float, str, bytes)
_BIT_GENERATORS = {"PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"}
_LEFT_OUT = {"left out": True}

_CONTAINERS: dict[str, Any] = {
    f"{kind.__module__}:{kind.__qualname__}": kind
    for kind in (dict, ObjectState, OrderedDict, Counter, list, set, deque)
}

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
        recorder = _recorder(env)
        record = [recorder.seed, _stacked(recorder.actions), recorder.last, recorder.seeds]
        return {"before": recorder.before, "record": write(record)}

    def restore(self, env: Env, snapshot: Snapshot, seed: int) -> bool:
        """Go through the episode again; exact if it ends with the same observation."""
        recorder = _recorder(env)
        read(snapshot["before"], recorder.env)
        (episode_seed, actions, last, seeds), _ = read(snapshot["record"], None)
        recorder.reset(seed=episode_seed)
        for action in _unstacked(actions, recorder.action_space):
            recorder.step(action)
        recorder.before = snapshot["before"]
        recorder.seeds = seeds
        return _same(recorder.last, last)


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


def _recorder(env: Env) -> Recorder:
    if not isinstance(env, Recorder):
        raise TypeError(f"{env} was not wrapped for a replay")
    return env


def _stacked(actions: list[Any]) -> Any:
    """Return numbers or arrays as one array, which a checkpoint holds better than a list."""
    plain = all(isinstance(action, int | np.integer | np.ndarray) for action in actions)
    return np.array(actions) if actions and plain else list(actions)


def _unstacked(actions: Any, space: gymnasium.Space[Any]) -> list[Any]:
    is_numbers = isinstance(actions, np.ndarray) and isinstance(space, gymnasium.spaces.Discrete)
    return actions.tolist() if is_numbers else list(actions)


# --- the choice -----------------------------------------------------------------------------------


def choose(make: Callable[[], Env], seed: int) -> Strategy:
    """Return the first strategy that proves exact on copies of an environment.

    Two copies are made for each strategy that is tried and closed again. No global generator moves.

    Args:
        make: makes the environment.
        seed: for the copies' episodes and actions.
    """
    for strategy in STRATEGIES.values():
        with preserved_globals():
            try:
                if _proves_exact(strategy, make, seed):
                    return strategy
            except Exception as error:  # noqa: BLE001 - whatever an environment raises here, another way may work
                logger.debug("environment state by %s: %s: %s", strategy.name, type(error).__name__, error)
    return STRATEGIES["restart"]


def _proves_exact(strategy: Strategy, make: Callable[[], Env], seed: int) -> bool:
    """Whether a copy brought to the state of another one then does the same as that."""
    if isinstance(strategy, Restart):
        return False
    with closing(strategy.wrap(make())) as original, _untouched_generators(original):
        if not strategy.applies(original):
            return False
        space = copy.deepcopy(original.action_space)
        space.seed(seed)
        actions = [_as_given(space.sample()) for _ in range(TRIAL_STEPS)]
        started = time.monotonic()
        original.reset(seed=seed)
        _warm_up(original, actions[::-1], started + TRIAL_SECONDS / 2)
        snapshot, random_states = strategy.capture(original), global_state()
        expected = _trace(original, actions, started + TRIAL_SECONDS)
    with closing(strategy.wrap(make())) as restored, _untouched_generators(restored):
        if not strategy.restore(restored, snapshot, seed):
            return False
        set_global_state(random_states)
        return _same(_trace(restored, actions[: len(expected) - 1], math.inf), expected)


@contextmanager
def _untouched_generators(env: Env) -> Iterator[None]:
    """Put generators back at the end: an environment may share one with its module, so with the training."""
    writer = _Writer(None)
    writer.write(env)
    before = [(found, generator_state(found)) for found in writer.kept if is_generator(found)]
    try:
        yield
    finally:
        for generator, state in before:
            set_generator_state(generator, state)


def _warm_up(env: Env, actions: list[Any], deadline: float) -> None:
    """Go to the middle of an episode that is not the first one."""
    length, episodes = 0, 0
    for i, action in enumerate(actions):
        _, _, terminated, truncated, _ = env.step(action)
        length += 1
        if terminated or truncated or (i == len(actions) // 4 and not episodes):
            env.reset()
            length, episodes = 0, episodes + 1
        elif (episodes and length >= 5) or time.monotonic() > deadline:
            return


def _trace(env: Env, actions: list[Any], deadline: float) -> list[tuple[Any, ...]]:
    """Return what an environment in the middle of an episode answers to actions, and to a last reset."""
    answers: list[tuple[Any, ...]] = []
    for i, action in enumerate(actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        answer: tuple[Any, ...] = (
            copy.deepcopy(observation),
            float(reward),
            bool(terminated),
            bool(truncated),
        )
        if terminated or truncated or i == TRIAL_STEPS * 3 // 4:
            answer += (copy.deepcopy(env.reset()[0]),)
        answers.append(answer)
        if time.monotonic() > deadline:
            break
    return [*answers, (copy.deepcopy(env.reset()[0]),)]


def _as_given(action: Any) -> Any:
    """Return an action as the vector env gives it: Python numbers for numbers."""
    return action.item() if isinstance(action, np.integer) else action


def _same(x: Any, y: Any) -> bool:
    """Whether two observations, or lists and dicts of such, agree bit for bit."""
    if isinstance(x, dict) and isinstance(y, dict):
        return x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple) and isinstance(y, list | tuple):
        return len(x) == len(y) and all(map(_same, x, y))
    a, b = np.asarray(x), np.asarray(y)
    if a.dtype.hasobject or b.dtype.hasobject:
        return bool(x == y)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# --- objects to plain data and back ---------------------------------------------------------------


def write(value: Any, own: Any = None) -> Snapshot:
    """Return `value` and all that it refers to as a table of plain data.

    Each thing that can change has one place in the table: what was one object is one again afterwards.
    What has no plain form (surfaces, specs, functions, handles of other libraries) is left out.

    Args:
        value: a plain value, container, generator, space or object with attributes.
        own: an object to be kept by its own `state_dict()`.
    """
    writer = _Writer(own)
    root = writer.write(value)
    return {"root": root, "nodes": writer.nodes}


def read(snapshot: Snapshot, current: Any) -> tuple[Any, bool]:
    """Bring `current` back to what was written.

    Objects, generators and spaces that are there are set in place; arrays and containers are made anew,
    because a fresh environment may share them with its class or module.

    Returns:
        The value, and whether all of it could be set.
    """
    reader = _Reader(snapshot["nodes"])
    value = reader.read(snapshot["root"], current)
    return value, reader.complete


class _Writer:
    """Turns values into leaves, and references to a table of nodes."""

    def __init__(self, own: Any) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.kept: list[Any] = []  # an id is an object's own only as long as it lives
        self._own = own
        self._index: dict[int, int] = {}

    def write(self, value: Any) -> Any:
        kind = type(value)
        match value:
            case _ if kind in _LEAVES:
                return value
            case np.generic():
                return value if _is_number(value.dtype) else _raw(np.asarray(value))
            case enum.Enum():
                return {"enum": value.name, "class": _name(kind)}
            case tuple():
                return {"tuple": [self.write(item) for item in value], "class": _name(kind)}
            case frozenset():
                return {"frozenset": [self.write(item) for item in value]}
        if id(value) not in self._index:
            if not _has_plain_form(value) and value is not self._own:
                return _LEFT_OUT
            self._index[id(value)] = len(self.nodes)
            self.kept.append(value)
            self.nodes.append({})
            # only now, as what is inside may refer back to it
            self.nodes[self._index[id(value)]].update(self._node(value))
        return {"ref": self._index[id(value)]}

    def _node(self, value: Any) -> dict[str, Any]:
        name = _name(type(value))
        match value:
            case _ if value is self._own:
                return {"own": self.write(value.state_dict())}
            case np.ndarray():
                return self._array(value)
            case np.random.Generator() | np.random.RandomState() | random.Random():
                return {"generator": generator_state(value), "class": name}
            case gymnasium.Space():
                return {"space": state_of.capture(value)["space"]}
            case dict():
                return {
                    "pairs": [[self.write(key), self.write(item)] for key, item in value.items()],
                    "class": name,
                }
            case list() | deque() | set():
                head = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
                return {"items": [self.write(item) for item in value], "class": name, **head}
        return {"object": {key: self.write(item) for key, item in vars(value).items()}, "class": name}

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        whole = value.base
        if isinstance(whole, np.ndarray) and whole.flags.c_contiguous and not whole.dtype.hasobject:
            start, first = (array.__array_interface__["data"][0] for array in (whole, value))
            place = {"offset": first - start, "strides": list(value.strides), "shape": list(value.shape)}
            return {"view": self.write(whole), **place, "dtype": value.dtype.str}
        content = {"array": value.copy()} if _is_number(value.dtype) else _raw(value)
        return {**content, "writeable": bool(value.flags.writeable)}


class _Reader:
    """Makes values of a table of nodes, out of those that are there where possible."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.complete = True
        self._nodes = nodes
        self._made: dict[int, Any] = {}
        self._used: set[int] = set()

    def read(self, item: Any, current: Any) -> Any:
        match item:
            case {"ref": index}:
                if index not in self._made:
                    self._make(index, self._nodes[index], current)
                return self._made[index]
            case {"raw": _}:
                return _from_raw(item)[()]
            case {"enum": member, "class": name}:
                return _find_class(name, current)[member]
            case {"tuple": items, "class": name}:
                values = self._items(items, current if isinstance(current, tuple) else ())
                return tuple(values) if name == "builtins:tuple" else _find_class(name, current)(*values)
            case {"frozenset": items}:
                return frozenset(self._items(items, ()))
            case dict() if current is _MISSING:
                raise LookupError("something was left out that a fresh environment has not")
            case dict():
                return current
        return item

    def _items(self, items: list[Any], present: Any) -> list[Any]:
        there = list(present)
        return [self.read(item, there[i] if i < len(there) else _MISSING) for i, item in enumerate(items)]

    def _make(self, index: int, node: dict[str, Any], current: Any) -> None:
        match node:
            case {"own": state}:
                current.load_state_dict(self.read(state, None))
                self._made[index] = current
            case {"generator": state}:
                generator = self._take(current, node) or _new_generator(node["class"], state)
                set_generator_state(generator, state)
                self._made[index] = generator
            case {"space": state}:
                self._made[index] = state_of.restore(current, ObjectState(space=state))
            case {"view": whole, "offset": offset, "strides": strides, "shape": shape}:
                self._made[index] = np.ndarray(shape, node["dtype"], self.read(whole, None), offset, strides)
            case {"writeable": writeable}:
                self._made[index] = np.array(node["array"]) if "array" in node else _from_raw(node)
                self._made[index].flags.writeable = writeable
            case {"object": attributes}:
                made = self._take(current, node)
                if made is None and _LEFT_OUT in attributes.values():
                    raise LookupError(f"a {node['class']} cannot be made of its attributes alone")
                made = object.__new__(_find_class(node["class"], None)) if made is None else made
                self._made[index] = made
                self._set_attributes(made, attributes)
            case {"pairs": pairs}:
                made = self._made[index] = _new_container(node, current)
                there = current if isinstance(current, dict) else {}
                for key_item, item in pairs:
                    key = self.read(key_item, None)
                    made[key] = self.read(item, there.get(key, _MISSING))
            case {"items": items}:
                made = self._made[index] = _new_container(node, current)
                values = self._items(items, current if isinstance(current, list | deque) else ())
                made.update(values) if isinstance(made, set) else made.extend(values)

    def _take(self, current: Any, node: dict[str, Any]) -> Any:
        """Return `current` if it is of the node's class and nothing else was made of it, else None."""
        if _name(type(current)) != node["class"] or id(current) in self._used:
            return None
        self._used.add(id(current))
        return current

    def _set_attributes(self, made: Any, attributes: dict[str, Any]) -> None:
        present = vars(made)
        for name in present.keys() - attributes.keys():
            del present[name]
        for name, item in attributes.items():
            if item != _LEFT_OUT:
                try:
                    present[name] = self.read(item, present.get(name, _MISSING))
                except LookupError:
                    self.complete = False


def _has_plain_form(value: Any) -> bool:
    match value:
        case np.ndarray():
            return not value.dtype.hasobject
        case dict():
            return all(map(_is_key, value))
        case list() | deque() | set() | random.Random() | gymnasium.Space() | gymnasium.Env():
            return True
        case np.random.Generator() | np.random.RandomState() | types.SimpleNamespace():
            return True
        case type() | EnvSpec() | WrapperSpec():
            return False
    kind: Any = type(value)
    if kind.__new__ is not object.__new__ or not hasattr(value, "__dict__"):
        return False
    # a process or a socket of the standard library looks plain too, but its numbers must not be set
    modules = {str(getattr(base, "__module__", "builtins")).partition(".")[0] for base in kind.__mro__[:-1]}
    return modules & sys.stdlib_module_names <= {"typing", "abc"}


def _is_key(key: Any) -> bool:
    if isinstance(key, tuple | frozenset):
        return all(map(_is_key, key))
    return type(key) in _LEAVES or isinstance(key, np.generic | enum.Enum)


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative


def _raw(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the bytes of an array of text or other things that files of tensors do not have."""
    return {"raw": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}


def _from_raw(node: dict[str, Any]) -> np.ndarray[Any, Any]:
    flat: np.ndarray[Any, Any] = np.frombuffer(node["raw"], np.dtype(node["dtype"]))
    return flat.reshape(node["shape"]).copy()


def _new_generator(name: str, state: Any) -> Any:
    if name == _name(random.Random):
        return random.Random()
    if name == _name(np.random.RandomState):
        return np.random.RandomState()
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise LookupError(f"there is no generator {state['bit_generator']}")
    return np.random.Generator(getattr(np.random, state["bit_generator"])())


def _new_container(node: dict[str, Any], current: Any) -> Any:
    """Return an empty dict, list, set or deque; one of a subclass is a copy of the one that is there."""
    plain = _CONTAINERS.get(node["class"])
    if plain is not None:
        return deque(maxlen=node["maxlen"]) if plain is deque else plain()
    if _name(type(current)) != node["class"]:
        raise LookupError(f"there is no {node['class']} to copy")
    made = copy.copy(current)
    made.clear()
    return made


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _find_class(name: str, current: Any) -> Any:
    """Return the class of that name: that of `current`, or one that is already imported."""
    if _name(type(current)) == name:
        return type(current)
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise LookupError(f"there is no class {name}")
    return found
