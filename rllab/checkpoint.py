"""Checkpoints: atomic, checksummed, and read without unpickling anything.

A checkpoint is a folder:

    weights.safetensors   what acting, sampling and predicting need
    <name>.skops          the same of a scikit-learn model
    state.safetensors     all other tensors and arrays
    <name>.safetensors    the same of one large attribute, such as a replay buffer
    state.json            everything that is no tensor, and where the tensors belong
    manifest.json         size and SHA-256 of each file, written last

It is written under a temporary name, synced and renamed, so that a kill at any moment leaves the previous one
whole. It is read only if its manifest verifies.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rllab.errors import CheckpointError, RunFailed
from rllab.state import ObjectState, State

BEST = "best"
_STEP = "step-"
_ASIDE = ".old.tmp"
_SKOPS = ".skops"
"""Weights of such a name are the bytes of a model, a tensor of uint8, and a file of their own."""
_LARGE = 1 << 20
"""Bytes from which an attribute's tensors get a file of their own."""


# --- names ----------------------------------------------------------------------------------------


def name_of(step: int) -> str:
    """Return the folder name of a full checkpoint: `step-000010000`."""
    return f"{_STEP}{step:09d}"


def steps(folder: Path) -> list[int]:
    """Return the steps of the full checkpoints in `folder`, the newest first; unfinished ones are left out."""
    names = (path.name for path in folder.glob(f"{_STEP}*"))  # renamed when complete: half ones have other names
    return sorted((int(name.removeprefix(_STEP)) for name in names if name.removeprefix(_STEP).isdigit()), reverse=True)


# --- writing --------------------------------------------------------------------------------------


def save(path: Path, *, weights: Mapping[str, Tensor], state: State | None, note: Mapping[str, Any]) -> None:
    """Write a checkpoint folder, replacing one of the same name.

    Args:
        path: the folder to make.
        weights: tensors by name.
        state: everything else, or None for a checkpoint of weights only.
        note: plain data for the manifest, such as the step and the method.

    Raises:
        RunFailed: if a weight is NaN or infinite, or the disk has no room; older checkpoints are left alone.
    """
    check_finite(weights)
    models = {name: tensor for name, tensor in weights.items() if name.endswith(_SKOPS)}
    files = {"weights": {name: tensor for name, tensor in weights.items() if name not in models}}
    skeleton: Any = None
    if state is not None:
        skeleton, files["state"] = _take_apart(state)
        files |= _split_large(files["state"])
    _check_room(path.parent, [models, *files.values()])
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tensors in files.items():
            save_file(_separate(tensors), temporary / f"{name}.safetensors")
        for name, tensor in models.items():
            (temporary / name).write_bytes(tensor.cpu().numpy().tobytes())
        if state is not None:
            (temporary / "state.json").write_text(json.dumps(skeleton), encoding="utf-8")
        _seal(temporary, note)
        _replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise RunFailed(f"the checkpoint {path.name} could not be written: {_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise `RunFailed` naming the first weight that is NaN or infinite."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise RunFailed(f"the weight {name} is not finite; no checkpoint is made of it")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors wants them: contiguous, on the host, none sharing memory with another."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        host = tensor.detach().cpu().contiguous()
        address = host.untyped_storage().data_ptr()
        whole = host.untyped_storage().nbytes() == host.nbytes
        separate[name] = host if whole and address not in seen else host.clone()
        seen.add(address)
    return separate


def _split_large(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Move the tensors of each large attribute of the algorithm out of `tensors` into a file of its own."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, _, rest = key.partition("/")
        name = rest.split("/")[0]
        if owner == "algorithm" and name.isidentifier() and name not in {"weights", "state"}:
            groups.setdefault(name, {})[key] = tensor
    large = {name: group for name, group in groups.items() if sum(t.nbytes for t in group.values()) >= _LARGE}
    for group in large.values():
        for key in group:
            del tensors[key]
    return large


def _check_room(folder: Path, files: Iterable[Mapping[str, Tensor]]) -> None:
    needed = sum(tensor.nbytes for tensors in files for tensor in tensors.values()) + (1 << 20)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailed(
            f"no room for a checkpoint: it takes {needed / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB left",
            "Free some space, then go on with `rllab resume`.",
        )


def _seal(folder: Path, note: Mapping[str, Any]) -> None:
    """Write the manifest, with every file on the disk before it and itself on the disk at the end."""
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)  # safetensors makes its files private
        _sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**note, "files": files}, indent=1), encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def _replace(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`; one that is there already is moved aside first and removed after."""
    old = path.parent / f".{path.name}{_ASIDE}"
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        recover(path.parent)
        raise
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back checkpoints that were moved aside for a new one which never came; for the holder of the run only."""
    for old in folder.glob(f".*{_ASIDE}"):
        path = folder / old.name.removeprefix(".").removesuffix(_ASIDE)
        if not path.exists():
            old.rename(path)


def _sync(path: Path) -> None:
    """Have a file or folder written to the disk; Windows syncs no folders, and no file that is open for reading."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def prune(folder: Path, keep: int, newest: int) -> None:
    """Remove all but `keep` full checkpoints up to step `newest`, and what killed processes left half-written.

    Later ones are of a future that did not verify, or it would have been resumed; they must not count as kept.
    """
    there = steps(folder)
    good = [step for step in there if step <= newest]
    for step in set(there) - set(good[: max(keep, 1)]):
        with suppress(OSError):  # under another name first: half of it must not look like a checkpoint after a kill
            (folder / name_of(step)).rename(folder / f".{name_of(step)}.{os.getpid()}.gone.tmp")
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


# --- reading --------------------------------------------------------------------------------------


def verify(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint after checking every file against it.

    Raises:
        CheckpointError: that says which file is missing, truncated or changed.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        files = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path.name} in {path.parent}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"the checkpoint {path} is damaged: its manifest cannot be read") from None
    for name, (size, checksum) in files.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"the checkpoint {path} is damaged: {name} is missing")
        if file.stat().st_size != size:
            raise CheckpointError(
                f"the checkpoint {path} is damaged: {name} has {file.stat().st_size} bytes, not {size}"
            )
        if _sha256(file) != checksum:
            raise CheckpointError(f"the checkpoint {path} is damaged: the checksum of {name} is wrong")
    return dict(manifest)


def newest_sound(folder: Path, warn: Callable[[str], object]) -> tuple[Path, dict[str, Any]]:
    """Return the newest full checkpoint in `folder` that verifies, and its manifest.

    Args:
        folder: of the checkpoints of a run.
        warn: is told of each damaged one that is passed over.

    Raises:
        CheckpointError: if there is none.
    """
    damaged: list[str] = []
    for step in steps(folder):
        path = folder / name_of(step)
        try:
            return path, verify(path)
        except CheckpointError as error:
            damaged.append(error.message)
            warn(f"{error.message}; the one before it is used")
    raise CheckpointError("; ".join(damaged) or f"there is no checkpoint in {folder}")


def load_weights(path: Path, manifest: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, on the CPU.

    Args:
        path: its folder.
        manifest: as from `verify`, if that was called already.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    manifest = verify(path) if manifest is None else manifest
    weights = _load_file(path / "weights.safetensors")
    for name in manifest["files"]:
        if name.endswith(_SKOPS):
            weights[name] = torch.frombuffer(bytearray((path / name).read_bytes()), dtype=torch.uint8)
    return weights


def load_state(path: Path, manifest: Mapping[str, Any] | None = None) -> State:
    """Return the state of a checkpoint, tensors on the CPU.

    Args:
        path: its folder.
        manifest: as from `verify`, if that was called already.

    Raises:
        CheckpointError: if it is missing, damaged, or has weights only.
    """
    manifest = verify(path) if manifest is None else manifest
    if "state.json" not in manifest["files"]:
        raise CheckpointError(f"the checkpoint {path} has weights only; it cannot be resumed")
    tensors: dict[str, Tensor] = {}
    for name in manifest["files"]:
        if name.endswith(".safetensors") and name != "weights.safetensors":
            tensors |= _load_file(path / name)
    skeleton = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return dict(_put_together(skeleton, tensors))


def _load_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


# --- state as JSON and tensors --------------------------------------------------------------------
#
# A JSON object with one key that starts with "$" stands for what JSON has not: {"$tuple": [1, 2]}.


def _take_apart(state: State) -> tuple[Any, dict[str, Tensor]]:
    """Split a state into plain JSON and the tensors it refers to by path."""
    tensors: dict[str, Tensor] = {}

    def encode(value: Any, path: str) -> Any:
        match value:
            case np.generic():
                return {"$scalar": [str(value.dtype), encode(np.asarray(value), path)]}
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"$float": repr(value)}
            case complex():
                return {"$complex": [encode(value.real, path), encode(value.imag, path)]}
            case bytes():
                return {"$bytes": base64.b64encode(value).decode()}
            case Tensor() if value.dtype is torch.complex128:  # which safetensors has not
                return {"$complex128": encode(torch.view_as_real(value.resolve_conj()), path)}
            case Tensor():
                return {"$tensor": place(value, path)}
            case np.ndarray():
                return encode_array(value, path)
            case ObjectState():
                return {"$object": items(value, path)}
            case dict():
                return items(value, path)
            case list():
                return [encode(item, f"{path}/{i}") for i, item in enumerate(value)]
            case tuple():
                return {"$tuple": [encode(item, f"{path}/{i}") for i, item in enumerate(value)]}
            case deque():
                return {"$deque": [value.maxlen, [encode(item, f"{path}/{i}") for i, item in enumerate(value)]]}
            case set() | frozenset():
                mark = "$set" if isinstance(value, set) else "$frozenset"
                return {mark: [encode(item, path) for item in sorted(value, key=repr)]}
        raise TypeError(f"{path} is a {type(value)}")

    def items(mapping: Mapping[Any, Any], path: str) -> Any:
        if all(isinstance(key, str) and not key.startswith("$") for key in mapping):
            return {key: encode(item, f"{path}/{key}" if path else key) for key, item in mapping.items()}
        return {"$dict": [[encode(k, path), encode(v, f"{path}/{i}")] for i, (k, v) in enumerate(mapping.items())]}

    def encode_array(array: np.ndarray, path: str) -> Any:
        # a copy of what is read-only, about which torch would warn
        own = np.ascontiguousarray(array) if array.flags.writeable else array.copy()
        tensor: Tensor | None = None
        with suppress(TypeError, ValueError):  # dtypes that torch has not, or of another byte order
            tensor = torch.from_numpy(own.reshape(array.shape))
        if tensor is None or tensor.dtype is torch.complex128:  # the latter safetensors has not
            return {"$raw": [str(array.dtype), list(array.shape), encode(array.tobytes(), path)]}
        return {"$array": place(tensor, path)}

    def place(tensor: Tensor, path: str) -> str:
        """Keep a tensor under its path, or near it: {"a/b": x} and {"a": {"b": y}} have the same one."""
        name = path
        while name in tensors:
            name += "'"
        tensors[name] = tensor
        return name

    return encode(state, ""), tensors


def _put_together(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_take_apart`."""

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        key = next(iter(value), "")
        if not key.startswith("$"):
            return {name: decode(item) for name, item in value.items()}
        return decode_special(key, value[key])

    def decode_special(key: str, item: Any) -> Any:
        match key:
            case "$tensor":
                return tensors[item]
            case "$complex128":
                return torch.view_as_complex(decode(item))
            case "$array":
                return tensors[item].numpy()
            case "$scalar":
                return np.dtype(item[0]).type(decode(item[1]).reshape(())[()])
            case "$raw":
                return np.frombuffer(decode(item[2]), dtype=item[0]).reshape(item[1]).copy()
            case "$float":
                return float(item)
            case "$complex":
                return complex(decode(item[0]), decode(item[1]))
            case "$bytes":
                return base64.b64decode(item)
            case "$tuple":
                return tuple(decode(part) for part in item)
            case "$deque":
                return deque((decode(part) for part in item[1]), maxlen=item[0])
            case "$set":
                return {decode(part) for part in item}
            case "$frozenset":
                return frozenset(decode(part) for part in item)
            case "$object":
                return ObjectState(decode(item))
            case "$dict":
                return {decode(k): decode(v) for k, v in item}
        raise CheckpointError(f"the checkpoint's state has an unknown mark {key}; it was written by a newer rllab")

    return decode(skeleton)
