"""Objects to plain data and back: what an environment and its wrappers hold, without pickle.

In: an object with attributes, such as an environment. Out: a table of numbers, texts, lists, dicts and arrays that
`rllab.checkpoint` can write; and a fresh object brought back to it. Every class it names must be imported already.
"""

from __future__ import annotations

import copy
import enum
import random
import sys
import types
from collections import Counter, OrderedDict, deque
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rllab import state as state_of
from rllab.state import ObjectState, is_generator

Snapshot: TypeAlias = dict[str, Any]

_MISSING = object()
_LEAVES = (type(None), bool, int, float, str, bytes)
_LEFT_OUT = {"left out": True}


def write(value: Any, own: Any = None) -> Snapshot:
    """Return `value` and all that it refers to as a table of plain data, which shares nothing with it.

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

    Raises:
        LookupError: if the value itself, and not just an attribute somewhere in it, cannot be made.
    """
    reader = _Reader(snapshot["nodes"])
    value = reader.read(snapshot["root"], current)
    return value, reader.complete


def generators(value: Any) -> list[Any]:
    """Return the random generators that `value` refers to, itself or through others."""
    writer = _Writer(None)
    writer.write(value)
    return [found for found in writer.kept if is_generator(found)]


# --- writing --------------------------------------------------------------------------------------


class _Writer:
    """Turns values into leaves, and references to a table of nodes."""

    def __init__(self, own: Any) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.kept: list[Any] = []  # an id is an object's own only as long as it lives
        self._own = own
        self._index: dict[int, int] = {}

    def write(self, value: Any) -> Any:
        match value:
            case _ if type(value) in _LEAVES:
                return value
            case np.generic() if value.dtype.kind not in "OV":
                return value
            case enum.Enum():
                return {"enum": value.name, "class": _name(type(value))}
            case tuple() | frozenset():
                return {"frozen": [self.write(item) for item in value], "class": _name(type(value))}
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
        if value is self._own:
            return {"own": self.write(value.state_dict())}
        if isinstance(value, np.ndarray):
            return self._array(value)
        name = _name(type(value))
        if is_generator(value) or isinstance(value, gymnasium.Space):
            return {"state": state_of.capture(value), "class": name}
        match value:
            case dict():
                return {"pairs": [[self.write(key), self.write(item)] for key, item in value.items()], "class": name}
            case list() | set():
                return {"items": [self.write(item) for item in value], "class": name}
            case deque():
                return {"items": [self.write(item) for item in value], "class": name, "maxlen": value.maxlen}
        return {"object": {key: self.write(item) for key, item in vars(value).items()}, "class": name}

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        whole = value.base
        if isinstance(whole, np.ndarray) and whole.flags.c_contiguous and _has_plain_form(whole):
            start, first = (array.__array_interface__["data"][0] for array in (whole, value))
            place = {"offset": first - start, "strides": list(value.strides), "shape": list(value.shape)}
            return {"view": self.write(whole), **place, "dtype": value.dtype.str}
        return {"array": value.copy()}


def _has_plain_form(value: Any) -> bool:
    match value:
        case np.ndarray():
            return value.dtype.kind not in "OV"
        case dict():
            return all(map(_is_key, value))
        case list() | deque() | set() | random.Random() | np.random.Generator() | np.random.RandomState():
            return True
        case gymnasium.Space() | gymnasium.Env():
            return True
        case type() | EnvSpec() | WrapperSpec():
            return False
    return hasattr(value, "__dict__") and _is_plain_class(type(value))


def _is_plain_class(kind: Any) -> bool:
    """Whether the attributes of an object of this class are all there is to it."""
    if kind.__new__ is not object.__new__:
        return kind is types.SimpleNamespace
    # a process or a socket of the standard library looks plain too, but its numbers must not be set
    modules = {str(getattr(base, "__module__", "builtins")).partition(".")[0] for base in kind.__mro__[:-1]}
    return modules & sys.stdlib_module_names <= {"typing", "abc"}


def _is_key(key: Any) -> bool:
    if isinstance(key, tuple | frozenset):
        return all(map(_is_key, key))
    return type(key) in _LEAVES or isinstance(key, np.generic | enum.Enum)


# --- reading --------------------------------------------------------------------------------------


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
            case {"enum": member, "class": name}:
                return _find_class(name, enum.Enum)[member]
            case {"frozen": items, "class": name}:
                kind = _find_class(name, tuple, frozenset)
                values = self._items(items, current)
                return kind(*values) if hasattr(kind, "_fields") else kind(values)
            case {"left out": _}:
                if current is _MISSING:
                    raise LookupError("something was left out that a fresh environment has not")
                return current
        return item

    def _items(self, items: list[Any], current: Any) -> list[Any]:
        there = list(current) if isinstance(current, list | tuple | deque) else []
        return [self.read(item, there[i] if i < len(there) else _MISSING) for i, item in enumerate(items)]

    def _make(self, index: int, node: dict[str, Any], current: Any) -> None:
        """Put what `node` describes at its place; before what is inside it, as that may refer back to it."""
        match node:
            case {"own": state}:
                current.load_state_dict(self.read(state, None))
                self._made[index] = current
            case {"state": state, "class": name}:
                made = self._take(current, name)
                self._made[index] = state_of.restore(_GENERATORS[name]() if made is None else made, state)
            case {"view": whole, "offset": offset, "strides": strides, "shape": shape}:
                self._made[index] = np.ndarray(shape, node["dtype"], self.read(whole, None), offset, strides)
            case {"array": array}:
                self._made[index] = np.array(array)
            case {"object": attributes, "class": name}:
                made = self._take(current, name)
                self._made[index] = made = _new_object(name, attributes) if made is None else made
                self._set_attributes(made, attributes)
            case {"pairs": pairs}:
                self._made[index] = made = _new_container(node, current)
                there = current if isinstance(current, dict) else {}
                for key_item, item in pairs:
                    key = self.read(key_item, None)
                    made[key] = self.read(item, there.get(key, _MISSING))
            case {"items": items}:
                self._made[index] = made = _new_container(node, current)
                values = self._items(items, current)
                made.update(values) if isinstance(made, set) else made.extend(values)

    def _take(self, current: Any, name: str) -> Any:
        """Return `current` if it is of the class `name` and nothing else was made of it, else None."""
        if _name(type(current)) != name or id(current) in self._used:
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


def _new_object(name: str, attributes: dict[str, Any]) -> Any:
    kind = _find_class(name, object)
    if _LEFT_OUT in attributes.values() or not _is_plain_class(kind):
        raise LookupError(f"a {name} cannot be made of its attributes alone")
    return kind.__new__(kind)


def _new_container(node: dict[str, Any], current: Any) -> Any:
    """Return an empty dict, list, set or deque; one of a subclass is a copy of the one that is there."""
    if node["class"] == _name(deque):
        return deque(maxlen=node["maxlen"])
    if node["class"] in _CONTAINERS:
        return _CONTAINERS[node["class"]]()
    if _name(type(current)) != node["class"]:
        raise LookupError(f"there is no {node['class']} to copy")
    made = copy.copy(current)
    made.clear()
    return made


# --- classes by name ------------------------------------------------------------------------------


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _find_class(name: str, *bases: type) -> Any:
    """Return the class of that name, which must be imported already and a subclass of one of `bases`."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, bases):
        raise LookupError(f"there is no class {name}")
    return found


_CONTAINERS: dict[str, Any] = {_name(kind): kind for kind in (dict, ObjectState, OrderedDict, Counter, list, set)}
_GENERATORS: dict[str, Any] = {
    _name(np.random.Generator): np.random.default_rng,
    _name(np.random.RandomState): np.random.RandomState,
    _name(random.Random): random.Random,
}
