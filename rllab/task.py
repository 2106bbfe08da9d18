"""What a method is trained on: an environment, a dataset or a text."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Self

from rllab import plugins
from rllab.config import Config
from rllab.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = {"rllab.envs": "environment", "rllab.datasets": "dataset", "rllab.texts": "text"}
"""What the plugins of a group are targets of."""


class Task(ABC):
    """A target of `rllab run METHOD TARGET`, with its options.

    Attributes:
        name: the target as the user wrote it.
        config: the options of the task.
    """

    kind: ClassVar[str]
    """What it is called in messages: "environment", "dataset" or "text"."""

    name: str
    config: Any

    @classmethod
    @abstractmethod
    def config_class(cls, target: str) -> type[Config]:
        """Return the options that `target` takes; an unknown target gets those that all have."""

    @classmethod
    @abstractmethod
    def open(cls, target: str, config: Config, *, seed: int) -> Self:
        """Open a target.

        Args:
            target: its name.
            config: an instance of `config_class(target)`.
            seed: the run's seed, for what is random in the task itself, such as the split of a dataset.

        Raises:
            UnknownName: if nobody knows the name.
            UsageError: if it is the name of a target of another kind; see `check_kind`.
        """

    @classmethod
    @abstractmethod
    def names(cls) -> list[str]:
        """Return the names that can be opened, as far as they are known without importing anything."""

    @property
    def slug(self) -> str:
        """Return the name of the task's folder under runs/: `ALE/Pong-v5` -> `ALE-Pong-v5`."""
        return slug(self.name)

    @cached_property
    def digest(self) -> str | None:
        """A hash of the data, by which it is seen whether they have changed; None where there are none."""
        return self._digest()

    def _digest(self) -> str | None:
        return None

    def close(self) -> None:
        """Free what the task holds."""


def digest_of(tensors: Iterable[Tensor], *more: str) -> str:
    """Return a hash of tensors, their types and shapes, and of texts."""
    found = hashlib.blake2b(digest_size=16)
    for text in more:
        found.update(text.encode("utf-8", "surrogatepass"))
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def kind_of(target: str) -> str | None:
    """Return what a target is, as far as its name tells; no plugin is imported.

    Returns:
        "environment", "dataset" or "text" for a name that is known as one, "file" or "folder" for a path where there
        is one, else None.
    """
    name = target.partition("@")[0]
    for group, kind in _KINDS.items():
        if name in plugins.names(group):
            return kind
    from rllab.environments import is_registered  # here, as it builds on this module; it brings Gymnasium

    if is_registered(target):
        return "environment"
    path = Path(target).expanduser()
    if not target or not path.exists():
        return None
    return "folder" if path.is_dir() else "file"


def check_kind(target: str, wanted: str, hint: str) -> None:
    """Raise UsageError for a target of another kind than a method learns from; one that nobody knows passes.

    Args:
        target: as the user wrote it.
        wanted: "environment", "dataset" or "text".
        hint: the way out.
    """
    kind = kind_of(target)
    if kind not in {None, wanted}:
        articles = {"environment": "an environment"}
        is_a, wants_a = (articles.get(word, f"a {word}") for word in (str(kind), wanted))
        raise UsageError(f"{target} is {is_a}, not {wants_a}", hint)


def slug(target: str) -> str:
    """Return a target as the name of a folder; a path gives the name of its file."""
    path = PurePath(target)
    name = path.name if path.suffix in {".csv", ".txt"} or path.is_absolute() else target
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", name).strip("-.") or "task"
