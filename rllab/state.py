"""The state of an object: everything needed to go on as if never stopped.

In: an object, such as an algorithm in the middle of training. Out: nested dicts and lists whose leaves are
numbers, strings, arrays and tensors, which `rllab.checkpoint` writes without pickle, and back again.

What is found on the object decides how it is kept:

| found | kept as |
|---|---|
| `nn.Module`, also inside lists and dicts | weights: parameters and buffers by name; its other attributes like ours |
| number, string, array, tensor; list, tuple, dict, set, deque of such | itself |
| random generators of Python, NumPy and torch | their state |
| objects with `state_dict()` and `load_state_dict()` (optimisers, replay buffers, environments) | their state dict |
| a Gymnasium space | the state of its random generator |
| a member of an enum | its name |
| functions, classes, devices, dtypes, paths, frozen configs | nothing: they do not change |

Anything else is an error that names the attribute, so that nothing is lost unnoticed.
"""

from __future__ import annotations

import enum
import inspect
import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium
import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

State: TypeAlias = dict[str, Any]


class ObjectState(dict[str, Any]):
    """The state of an object that must already be there when it is loaded, unlike that of a plain dict."""


class UncapturedState(TypeError):
    """Something on an object whose state cannot be kept."""


@runtime_checkable
class Stateful(Protocol):
    """Anything that keeps its own state."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Go back to `state`."""
        ...


_CONSTANTS = (
    torch.device,
    torch.dtype,
    np.dtype,
    type,
    types.BuiltinFunctionType,
    types.ModuleType,
    types.GenericAlias,
    PurePath,
    enum.Enum,
)


_IN_SETS = (type(None), bool, int, float, complex, str, bytes, np.generic, tuple, frozenset)


# --- single values --------------------------------------------------------------------------------


def capture(value: object, path: str = "value") -> Any:
    """Return the state of `value`; tensors and arrays are not copied.

    Raises:
        UncapturedState: for a value that the table above does not have; the message names `path`.
    """
    match value:
        case enum.Flag():
            return ObjectState(enum=value.value)
        case enum.Enum():
            return ObjectState(enum=value.name)
        case None | bool() | int() | float() | complex() | str() | bytes() | np.generic() | np.ndarray():
            if isinstance(value, np.ndarray) and value.dtype.kind in "OV":
                raise UncapturedState(f"{path} is an array of Python objects or records")
            return value
        case nn.Module():
            return None  # its weights are collected by name, see `weights`
        case Tensor():
            return value.detach()
        case Mapping() if type(value) in (dict, ObjectState, types.MappingProxyType) or _is_dict_like(value):
            return {key: capture(item, f"{path}[{key!r}]") for key, item in value.items()}
        case list():
            return [capture(item, f"{path}[{i}]") for i, item in enumerate(value)]
        case tuple():
            return tuple(capture(item, f"{path}[{i}]") for i, item in enumerate(value))
        case deque():
            return deque((capture(item, f"{path}[{i}]") for i, item in enumerate(value)), value.maxlen)
        case set() | frozenset():
            for item in value:
                if not isinstance(item, _IN_SETS) or isinstance(item, enum.Enum):
                    raise UncapturedState(f"{path} is a set with a {type(item).__qualname__}; make it a list or a dict")
            return type(value)(value)
    if is_generator(value):
        return ObjectState(generator=generator_state(value))
    if isinstance(value, gymnasium.Space):
        return ObjectState(space=_space_state(value))
    if isinstance(value, Stateful) and not isinstance(value, type):
        return ObjectState(value.state_dict())
    if _is_constant(value):
        return None
    raise UncapturedState(
        f"{path} is a {type(value).__module__}.{type(value).__qualname__}, whose state cannot be kept in a checkpoint"
    )


def restore(current: Any, state: Any, path: str = "value") -> Any:
    """Return `current` brought back to `state`, in place wherever that is possible.

    Raises:
        UncapturedState: if `state` belongs to an object that is not there.
    """
    if isinstance(state, ObjectState):
        return _restore_object(current, state, path)
    match current:
        case nn.Module():
            return current
        case np.ndarray() if isinstance(state, np.ndarray) and _fits(current, state) and current.flags.writeable:
            np.copyto(current, state)
            return current
        case Tensor() if isinstance(state, Tensor) and _fits(current, state):
            with torch.no_grad():
                current.copy_(state)
            return current
        case list() if isinstance(state, list):
            current[:] = _restore_items(current, state, path)
            return current
        case deque() if isinstance(state, deque) and current.maxlen == state.maxlen:
            items = _restore_items(current, state, path)
            current.clear()
            current.extend(items)
            return current
        case tuple() if isinstance(state, tuple):
            items = _restore_items(current, state, path)
            return type(current)(*items) if hasattr(current, "_fields") else tuple(items)
        case dict() if isinstance(state, dict):
            entries = {key: restore(current.get(key), item, f"{path}[{key!r}]") for key, item in state.items()}
            current.clear()
            current.update(entries)
            return current
        case set() if isinstance(state, set):
            current.clear()
            current.update(state)
            return current
    if state is None and _is_constant(current):
        return current
    if isinstance(state, Tensor) and isinstance(current, Tensor):
        return state.to(current.device).clone()
    match state:
        case Tensor():
            return state.clone()
        case np.ndarray():
            return state.copy()
        # into a new container, so that nothing is shared with the state, and no object in it is passed over
        case dict():
            return restore({}, state, path)
        case list():
            return restore([], state, path)
        case deque():
            return restore(deque(maxlen=state.maxlen), state, path)
        case tuple():
            return restore((), state, path)
    return state


def _restore_items(current: Iterable[Any], state: Iterable[Any], path: str) -> list[Any]:
    present = list(current)
    return [restore(present[i] if i < len(present) else None, item, f"{path}[{i}]") for i, item in enumerate(state)]


def _restore_object(current: Any, state: ObjectState, path: str) -> Any:
    if isinstance(current, enum.Enum):
        kind = type(current)
        return kind(state["enum"]) if isinstance(current, enum.Flag) else kind[state["enum"]]
    if is_generator(current):
        set_generator_state(current, state["generator"])
    elif isinstance(current, gymnasium.Space):
        _set_space_state(current, state["space"])
    elif isinstance(current, Stateful):
        current.load_state_dict(dict(state))
    else:
        raise UncapturedState(f"{path} has a saved state, but there is no object to load it into")
    return current


def _fits(current: Any, state: Any) -> bool:
    return bool(current.shape == state.shape and current.dtype == state.dtype)


def _is_dict_like(value: Mapping[Any, Any]) -> bool:
    return isinstance(value, dict) and type(value).__init__ is dict.__init__


def _is_constant(value: object) -> bool:
    if isinstance(value, _CONSTANTS):
        return True
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None
    return isinstance(value, BaseModel) and bool(value.model_config.get("frozen"))


# --- random generators and spaces -----------------------------------------------------------------


def is_generator(value: object) -> bool:
    """Whether `value` is a random generator of Python, NumPy or torch."""
    return isinstance(value, np.random.Generator | np.random.RandomState | torch.Generator | random.Random)


def generator_state(generator: Any) -> Any:
    """Return the state of a random generator as plain data."""
    match generator:
        case np.random.Generator():
            return generator.bit_generator.state
        case np.random.RandomState():
            return generator.get_state(legacy=False)
        case torch.Generator():
            return generator.get_state()
        case random.Random():
            return generator.getstate()
    raise UncapturedState(f"{type(generator)} is no random generator")


def set_generator_state(generator: Any, state: Any) -> None:
    """Bring a random generator back to `state`, in place."""
    match generator:
        case np.random.Generator():
            generator.bit_generator.state = state
        case np.random.RandomState():
            generator.set_state(state)
        case torch.Generator():
            generator.set_state(state)
        case random.Random():
            generator.setstate(state)


def _space_state(space: gymnasium.Space[Any]) -> Any:
    """Return the generator states of a space and of the spaces inside it; None where none was drawn yet."""
    drawn = getattr(space, "_np_random", None)
    inner = [_space_state(part) for part in _inner_spaces(space)]
    return [None if drawn is None else generator_state(drawn), inner]


def _set_space_state(space: gymnasium.Space[Any], state: Any) -> None:
    own, inner = state
    if own is not None:
        set_generator_state(space.np_random, own)
    for part, part_state in zip(_inner_spaces(space), inner, strict=True):
        _set_space_state(part, part_state)


def _inner_spaces(space: gymnasium.Space[Any]) -> list[gymnasium.Space[Any]]:
    inner = getattr(space, "spaces", ())
    return list(inner.values()) if isinstance(inner, Mapping) else list(inner)


# --- whole objects --------------------------------------------------------------------------------


def modules(owner: object) -> dict[str, nn.Module]:
    """Return every `nn.Module` among the attributes of `owner`, also inside lists, deques and dicts, by name."""
    return dict(_find_modules(vars(owner)))


def _find_modules(container: Any, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    items = container.items() if isinstance(container, Mapping) else enumerate(container)
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, nn.Module):
            yield name, value
        elif isinstance(value, list | tuple | deque | dict):
            yield from _find_modules(value, f"{name}.")


def weights(owner: object) -> dict[str, Tensor]:
    """Return all parameters and buffers (also non-persistent ones) of the modules on `owner`, by name."""
    found: dict[str, Tensor] = {}
    for prefix, module in modules(owner).items():
        named: Callable[..., Iterator[tuple[str, Tensor]]]
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                # torch.compile wraps a module and prefixes its names: a checkpoint does not depend on that
                found[f"{prefix}.{name}".replace("_orig_mod.", "")] = tensor.detach()
    return found


def load_weights(owner: object, saved: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Copy saved weights into the modules on `owner`, in place.

    Args:
        owner: the object whose modules are to be filled; every weight they have must be in `saved`.
        saved: weights by name, as from `weights`.
        strict: whether weights that no module takes are an error too.

    Raises:
        ValueError: for a weight that is missing, left over, or of another shape.
    """
    present = weights(owner)
    missing = sorted(set(present) - set(saved))
    surplus = sorted(set(saved) - set(present)) if strict else []
    if missing or surplus:
        what = f"no {', '.join(missing[:3])}" if missing else f"{', '.join(surplus[:3])} that the model has not"
        raise ValueError(f"the saved weights have {what}")
    for name, tensor in present.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(
                f"the saved weight {name} has shape {tuple(saved[name].shape)}, the model's is {tuple(tensor.shape)}"
            )
        tensor.copy_(saved[name])


def collect(owner: object, skip: Iterable[str] = ()) -> State:
    """Return the state of all attributes of `owner` but those in `skip`; modules give all but their weights.

    Raises:
        UncapturedState: for an attribute whose state cannot be kept.
    """
    skipped = set(skip)
    attributes = {name: value for name, value in vars(owner).items() if name not in skipped}
    state: State = {
        name: capture(value, name) for name, value in attributes.items() if not isinstance(value, nn.Module)
    }
    state["__frozen__"] = [
        f"{prefix}:{name}"
        for prefix, module in modules(owner).items()
        for name, part in module.named_modules()
        if not part.training
    ]
    known = {id(part) for module in modules(owner).values() for part in module.modules()}
    state["__parts__"] = {name: _part_state(part, name, known) for name, part in _parts(owner, skipped)}
    return state


def restore_into(owner: object, state: State, skip: Iterable[str] = ()) -> None:
    """Bring all attributes of `owner` but those in `skip` back to `state`.

    Raises:
        UncapturedState: if the attributes are not those that were saved.
    """
    skipped = set(skip)
    saved = {name: item for name, item in state.items() if name not in {"__frozen__", "__parts__"}}
    present = {name for name, value in vars(owner).items() if name not in skipped and not isinstance(value, nn.Module)}
    if missing := sorted(present - set(saved)):
        raise UncapturedState(f"the saved state has no {', '.join(missing)}")
    for name, item in saved.items():
        setattr(owner, name, restore(getattr(owner, name, None), item, name))
    frozen = set(state.get("__frozen__", ()))
    for prefix, module in modules(owner).items():
        for name, part in module.named_modules():
            part.training = f"{prefix}:{name}" not in frozen
    for name, part in _parts(owner, skipped):
        _restore_part(part, state.get("__parts__", {}).get(name, {}), name)


# --- what modules hold besides weights ------------------------------------------------------------

_OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has: its parameters, buffers, parts, hooks and training flag."""
_EXTRA = "extra state"


def _parts(owner: object, skipped: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module on `owner` and all parts of each, named like their weights; wrappers of torch.compile not."""
    for prefix, module in _find_modules({name: value for name, value in vars(owner).items() if name not in skipped}):
        for name, part in module.named_modules():
            if "_orig_mod" not in part._modules:
                yield ".".join(word for word in [prefix, *name.split(".")] if word not in {"", "_orig_mod"}), part


def _part_state(part: nn.Module, path: str, known: set[int]) -> State:
    """Return the state of the attributes of one module that are neither weights nor parts.

    Args:
        part: the module.
        path: its name.
        known: the ids of all modules whose weights are kept.

    Raises:
        UncapturedState: for an attribute whose state cannot be kept, or which hides weights.
    """
    state: State = {}
    for name, value in _part_attributes(part).items():
        if any(id(hidden) not in known for _, hidden in _find_modules({name: value})):
            raise UncapturedState(f"{path}.{name} has modules that torch does not know of; make it an nn.ModuleList")
        state[name] = capture(value, f"{path}.{name}")
    if type(part).get_extra_state is not nn.Module.get_extra_state:
        state[_EXTRA] = capture(part.get_extra_state(), f"{path}: extra state")  # last, as it has the last word
    return state


def _restore_part(part: nn.Module, state: State, path: str) -> None:
    attributes = vars(part)
    missing = sorted(set(_part_attributes(part)) - set(state))
    if state and missing and not _is_of_torch(type(part)):  # another torch may call things otherwise
        raise UncapturedState(f"the saved state has no {path}.{missing[0]}")
    for name, item in state.items():
        if name == _EXTRA:
            part.set_extra_state(restore(part.get_extra_state(), item, f"{path}: extra state"))
        else:
            attributes[name] = restore(attributes.get(name), item, f"{path}.{name}")


def _part_attributes(part: nn.Module) -> dict[str, Any]:
    kind: Any = type(part)
    skipped = _OWN | _torch_names(kind)
    own = {name: value for name, value in vars(part).items() if name not in skipped}
    if _is_of_torch(kind):  # such as _flat_weights of an nn.LSTM, which are views of its parameters
        return {name: value for name, value in own.items() if not name.startswith("_")}
    return own


def _is_of_torch(kind: type[Any]) -> bool:
    homes = {base.__module__.partition(".")[0] for base in kind.__mro__[:-1]}
    return "torch" in homes and homes <= {"torch", "typing", "abc"}


@cache
def _torch_names(kind: type[Any]) -> frozenset[str]:
    """Return the private names that torch's classes among the bases of a class use in their methods."""
    bases = [base for base in kind.__mro__[:-1] if base is not nn.Module and _is_of_torch(base)]
    methods = [method for base in bases for method in vars(base).values() if inspect.isfunction(method)]
    names = (name for method in methods for name in method.__code__.co_names)
    return frozenset(name for name in names if name.startswith("_"))
