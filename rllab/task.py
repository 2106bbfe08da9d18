"""What a method is trained on: an environment, a dataset or a text."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import PurePath
from typing import Any, ClassVar, Self

from rllab.config import Config


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
            UnknownName: if there is none of that name.
        """

    @classmethod
    @abstractmethod
    def names(cls) -> list[str]:
        """Return the names that can be opened, as far as they are known without importing anything."""

    @property
    def slug(self) -> str:
        """Return the name of the task's folder under runs/: `ALE/Pong-v5` -> `ALE-Pong-v5`."""
        return slug(self.name)

    def close(self) -> None:
        """Free what the task holds."""


def slug(target: str) -> str:
    """Return a target as the name of a folder; a path gives the name of its file."""
    path = PurePath(target)
    name = path.name if path.suffix in {".csv", ".txt"} or path.is_absolute() else target
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", name).strip("-.") or "task"
