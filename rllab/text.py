"""Texts to learn from: from the name or path that a user wrote to characters, split into parts.

In: the name of a plugin (entry-point group `rllab.texts`) or a path, and options. Out: a `TextTask` that holds the
characters as numbers: a training part, then perhaps a validation part, then a test part, in the order in which they
were written. A plugin is a `TextSource`: its options, and a function that returns the text.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rllab import plugins
from rllab.config import Config
from rllab.data import PLUGIN_GROUP as DATASETS_GROUP
from rllab.data import TEXTS_GROUP as PLUGIN_GROUP
from rllab.errors import UnknownName, UsageError
from rllab.fetching import Fetchable
from rllab.task import Task, check_kind, digest_of, slug

_NAMED = 10
"""Characters that an error names at most."""
_SHOWN = 60
"""Characters of a vocabulary that an error shows at most."""

# --- what a text is -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text as numbers. The parts follow one another as they were written: train, validation, test.

    A character is as small as the vocabulary allows: uint8 for up to 256 characters, int16 up to 32,768, else int32.
    Embeddings and losses want int64: turn a batch into it, not the text.

    Attributes:
        train: (N,), the characters to learn from.
        test: (N,), the tail of the text, which is looked at in the end.
        validation: (N,), the piece between them that decides when to stop, if there is one.
        vocabulary: all characters that occur anywhere in the text, sorted; a character's number is its place.
        notes: what else there is to say, such as where it comes from.
    """

    train: Tensor
    test: Tensor
    validation: Tensor | None
    vocabulary: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Tensor]:
        """Return the parts that there are, by name, in the order of the text."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def numbered(written: str) -> tuple[Tensor, str]:
    """Return the characters of a text as numbers (N,), and its vocabulary: all that occur, sorted."""
    vocabulary = "".join(sorted(set(written)))
    kind = next(kind for kind in (np.uint8, np.int16, np.int32) if len(vocabulary) - 1 <= np.iinfo(kind).max)
    # a table from Unicode to numbers: a dictionary would be asked once for every character of the text
    table = np.zeros(ord(max(vocabulary, default="\0")) + 1, kind)
    table[_code_points(vocabulary)] = np.arange(len(vocabulary))
    return torch.from_numpy(table[_code_points(written)]), vocabulary


def _code_points(written: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(written.encode("utf-32-le", "surrogatepass"), "<u4")


# --- options and plugins --------------------------------------------------------------------------


class TextConfig(Config):
    """Options of every text."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the text, its tail, that is tested on and never learned from."""

    validation_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rest, its end, that decides when to stop and which checkpoint is best; 0: none."""


class TextSource(Fetchable, ABC):
    """A plugin that brings a text."""

    Config: ClassVar[type[TextConfig]] = TextConfig
    """Its options."""

    @classmethod
    @abstractmethod
    def load(cls, target: str, config: Any) -> str:
        """Return the whole text; `TextTask` splits and numbers it.

        Args:
            target: what the user wrote: the name, or the path for sources that read files.
            config: an instance of `Config`.

        Raises:
            DataMissing: if its files are not there.
            UsageError: if they are not what they should be.
        """

    @classmethod
    def notes(cls, target: str, config: Any) -> dict[str, str]:
        """Return what else there is to say of the text that `load` returns, such as where it comes from."""
        return {}


# --- the task -------------------------------------------------------------------------------------


class TextTask(Task):
    """A text to learn from.

    Attributes:
        name: the name or path as the user wrote it.
        config: its options.
        text: its characters as numbers, with all parts split off.
    """

    kind: ClassVar[str] = "text"

    config: TextConfig
    text: Text

    def __init__(self, name: str, config: TextConfig, text: Text) -> None:
        self.name = name
        self.config = config
        self.text = text
        self._numbers = {character: number for number, character in enumerate(text.vocabulary)}

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the plugins."""
        return plugins.names(PLUGIN_GROUP)

    @classmethod
    def config_class(cls, target: str) -> type[TextConfig]:
        """Return the options of a text; of one that is not known, those that all have."""
        name = plugin_name(target)
        return source(name).Config if _is_known(name) else TextConfig

    @classmethod
    def open(cls, target: str, config: Config, *, seed: int) -> Self:
        """Read a text and split it.

        Args:
            target: the name of a plugin, or the path of a file or of a folder.
            config: an instance of `config_class(target)`.
            seed: the run's; a text has nothing random in it.

        Raises:
            UnknownName: if there is none of that name.
            DataMissing: if its files are not there.
            UsageError: if it is something else, is no text, or there is nothing to learn in it.
        """
        name = plugin_name(target)
        is_path = name != target
        if not (Path(target).expanduser().exists() if is_path else _is_known(name)):  # ALE/Pong-v5 looks like a path
            check_kind(target, cls.kind, f"Texts are: {', '.join(cls.names())}; and any file or folder, by its path.")
        if not _is_known(name):
            what = "`rllab list texts` lists them; the path of a file or of a folder is one, too."
            raise UnknownName("text", target, cls.names(), what)
        found = source(name)
        assert isinstance(config, found.Config), f"{target} takes options of {found.Config.__name__}"
        written = found.load(target, config)
        return cls(target, config, split(target, written, config, found.notes(target, config)))

    @property
    def vocabulary(self) -> str:
        """Return all characters of the text, sorted; a character's number is its place."""
        return self.text.vocabulary

    @property
    def size(self) -> int:
        """Return how many characters the text has in all."""
        return sum(map(len, self.text.parts.values()))

    @property
    def slug(self) -> str:
        """Return the name of the task's folder under runs/: of a path, the name of the file or folder."""
        path = Path(self.name).expanduser()
        return slug(path.resolve().name) if plugin_name(self.name) != self.name else slug(self.name)

    def _digest(self) -> str:
        """Return a hash of all parts and the vocabulary."""
        return digest_of(self.text.parts.values(), self.vocabulary)

    def encode(self, written: str) -> Tensor:
        """Return characters as numbers: (N,), int64.

        Raises:
            UsageError: that names the characters which the vocabulary lacks.
        """
        if lacking := [character for character in dict.fromkeys(written) if character not in self._numbers]:
            named = ", ".join(map(repr, lacking[:_NAMED]))
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            shown, dots = repr(self.vocabulary[:_SHOWN]), "..." if len(self.vocabulary) > _SHOWN else ""
            raise UsageError(
                f"the vocabulary of {self.name} lacks {named}{more}",
                f"It has {len(self.vocabulary)} characters: {shown}{dots}",
            )
        return torch.tensor([self._numbers[character] for character in written], dtype=torch.int64)

    def decode(self, codes: Tensor | Sequence[int]) -> str:
        """Return numbers (N,) as the characters that they stand for."""
        numbers = codes.tolist() if isinstance(codes, Tensor) else codes
        return "".join([self.vocabulary[number] for number in numbers])


def plugin_name(target: str) -> str:
    """Return which plugin opens a target: the one of that name, else `file` or `folder` for a path.

    A name is a name even if a file is called so, and `./name` is the path; likewise for names of datasets, so that
    a folder of their files is not read as a text by accident.
    """
    bare = target.partition("@")[0]
    if not target or bare in {*plugins.names(PLUGIN_GROUP), *plugins.names(DATASETS_GROUP)}:
        return target
    path = Path(target).expanduser()
    if path.is_dir():
        return "folder"
    return "file" if path.is_file() or "/" in target or path.suffix else target


def _is_known(name: str) -> bool:
    return name.partition("@")[0] in plugins.names(PLUGIN_GROUP)


def source(name: str) -> type[TextSource]:
    """Import a plugin that brings a text.

    Raises:
        PluginError: if it cannot be imported, or is no `TextSource`.
    """
    found: type[TextSource] = plugins.subclass(PLUGIN_GROUP, name, "text", TextSource)
    return found


# --- splitting ------------------------------------------------------------------------------------


def split(target: str, written: str, config: TextConfig, notes: dict[str, str] | None = None) -> Text:
    """Number the characters of a text, and cut it into its parts, in the order in which it was written.

    Raises:
        UsageError: if there is nothing to learn in it, or a part would be empty.
    """
    if not written:
        raise UsageError(f"{target} is empty")
    codes, vocabulary = numbered(written)
    if len(vocabulary) == 1:
        raise UsageError(f"{target} has one character only, {vocabulary!r}, over and over: there is nothing to learn")
    rest, test = _cut(codes, config.test_share, "--test-share")
    train, validation = (
        _cut(rest, config.validation_share, "--validation-share") if config.validation_share else (rest, None)
    )
    return Text(train, test, validation, vocabulary, notes or {})


def _cut(codes: Tensor, share: float, option: str) -> tuple[Tensor, Tensor]:
    """Return the beginning and the end, which is a share of all, rounded up."""
    tail = math.ceil(Fraction(repr(share)) * len(codes))  # exactly: as floats, 0.07 of 100 are more than 7
    if tail >= len(codes):
        raise UsageError(f"{option} {share:g} of {len(codes)} characters leaves nothing to learn from")
    return codes[:-tail], codes[-tail:]
