"""Datasets to train on: from the name that a user wrote to tensors, split into parts.

In: the name of a plugin (entry-point group `rllab.datasets`) or a path, and options. Out: a `DatasetTask` that
holds a training, a validation and a test part. A plugin is a `Source`: its options, and a function that makes
the items.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor

from rllab import plugins
from rllab.config import Config
from rllab.errors import PluginError, UnknownName, UsageError
from rllab.fetching import Fetchable
from rllab.parts.normalise import Scaling as Scaling  # sources take it from here
from rllab.task import Task, check_kind, digest_of, kind_of

PLUGIN_GROUP = "rllab.datasets"
TEXTS_GROUP = "rllab.texts"
"""Of the plugins of `rllab.text`, which are no datasets."""

# --- what a dataset is ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Some of the items of a dataset, all on one device.

    Attributes:
        inputs: (N, *shape), float32, or uint8 for images (N, channels, height, width).
        targets: (N,), int64 numbers of classes, or float32 values.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: Any) -> Part:
        return Part(self.inputs[rows], self.targets[rows])

    def to(self, device: torch.device) -> Part:
        """Return the part on a device."""
        return Part(self.inputs.to(device), self.targets.to(device))

    def chunks(self, size: int) -> Iterator[Part]:
        """Go through the part in order, in pieces of at most `size` items."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


@dataclass(frozen=True)
class Data:
    """The items of a dataset. A source that leaves `test` out has it split off the training part.

    Attributes:
        train: the items to learn from.
        classes: names of the classes; none for regression.
        validation: the items that decide when to stop and which checkpoint is best; may be empty.
        test: the items that are looked at in the end.
        features: names of the input's columns, where it has columns.
        target: what is predicted, with its unit.
        notes: what else there is to say, such as the base rate.
        finish: what is left to do once the parts are known, such as choosing words by the training part.
        encode: for data of texts, how a text becomes one input; raises UsageError for a text that cannot.
    """

    train: Part
    classes: tuple[str, ...] = ()
    validation: Part | None = None
    test: Part | None = None
    features: tuple[str, ...] = ()
    target: str = "target"
    notes: dict[str, str] = field(default_factory=dict)
    finish: Callable[[Data], Data] | None = None
    encode: Callable[[str], Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one input."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def parts(self) -> dict[str, Part]:
        """Return the parts that have items, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None and len(part)}


def classification(inputs: Any, targets: Any) -> Part:
    """Return a part of arrays: inputs as float32 unless they are uint8, targets as numbers of classes."""
    return Part(_inputs(inputs), torch.as_tensor(np.asarray(targets)).long())


def regression(inputs: Any, targets: Any) -> Part:
    """Return a part of arrays: inputs as float32 unless they are uint8, targets as float32."""
    return Part(_inputs(inputs), torch.as_tensor(np.asarray(targets)).float())


def _inputs(inputs: Any) -> Tensor:
    tensor = torch.as_tensor(np.asarray(inputs))
    return tensor if tensor.dtype is torch.uint8 else tensor.float()


# --- options and plugins --------------------------------------------------------------------------


class DatasetConfig(Config):
    """Options of every dataset."""

    split_seed: NonNegativeInt | None = None
    """Seed of what is random in the data: the points that are drawn, the split. None: the run's seed."""

    test_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of the items that are tested on in the end. None: as the dataset has it, or 0.2."""

    validation_share: float | None = Field(default=None, ge=0, lt=1)
    """Share of the other items that decides when to stop and which checkpoint is best. None: as the dataset has it."""

    folds: int = Field(default=0, ge=0)
    """Cross-validation: split into so many parts and train as often, each time testing on another; 0: no."""

    fold: NonNegativeInt = 0
    """Which of the --folds is tested on, counted from 0; without it each of them is, one run after the other."""

    scale: Scaling = "none"
    """How inputs are scaled, by what the training part is like: none, minmax to [0, 1], standard, or center."""

    @property
    def cuts_test_part(self) -> bool:
        """Whether --folds or --test-share cut a test part; a source that makes one itself leaves it out then."""
        return bool(self.folds) or self.test_share is not None

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.folds == 1:
            raise ValueError("--folds 1 is no cross-validation: write at least 2")
        if self.folds and self.fold >= self.folds:
            raise ValueError(f"--fold {self.fold} is not below --folds {self.folds}")
        if self.folds and self.test_share is not None:
            raise ValueError("--folds decides what is tested on, and goes without --test-share")
        return self


class Source(Fetchable, ABC):
    """A dataset plugin."""

    Config: ClassVar[type[DatasetConfig]] = DatasetConfig
    """Its options."""
    example: ClassVar[tuple[tuple[int, ...], int] | None] = None
    """The shape of an input and the number of classes (0: numbers) with default options; None: that depends."""

    @classmethod
    @abstractmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return the items.

        Args:
            target: what the user wrote: the name, or the path for sources that read files.
            config: an instance of `Config`.
            rng: for items that are drawn; it follows from the split's seed.

        Raises:
            DataMissing: if its files are not there.
            UsageError: if they are not what they should be.
        """


def datasets_for(takes: Callable[[DatasetTask], bool]) -> list[str]:
    """Return the names of the datasets that a method takes; none of them is loaded for that.

    Args:
        takes: whether the method takes a task; it is asked with two items of zeros in the shape of each dataset.
    """
    found = []
    for name in DatasetTask.names():
        with suppress(PluginError):
            kind = source(name)
            if kind.example is None:
                continue
            shape, classes = kind.example
            targets = torch.tensor([0, 1]) if classes else torch.tensor([0.0, 1.0])
            items = Part(torch.zeros(2, *shape), targets)
            data = Data(items, classes=tuple(map(str, range(classes))), test=items)
            if takes(DatasetTask(name, kind.Config(), data)):
                found.append(name)
    return found


class DataMissing(UsageError):
    """The files of a dataset are not on this machine; `rllab data fetch NAME` may bring them."""


# --- the task -------------------------------------------------------------------------------------


class DatasetTask(Task):
    """A dataset to train on.

    Attributes:
        name: the name or path as the user wrote it.
        config: its options.
        data: its items, with all parts split off.
    """

    kind: ClassVar[str] = "dataset"

    config: DatasetConfig
    data: Data

    def __init__(self, name: str, config: DatasetConfig, data: Data) -> None:
        self.name = name
        self.config = config
        self.data = data

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the plugins."""
        return plugins.names(PLUGIN_GROUP)

    @classmethod
    def config_class(cls, target: str) -> type[DatasetConfig]:
        """Return the options of a dataset; of one that is not known, those that all have."""
        name = plugin_name(target)
        return source(name).Config if name in cls.names() else DatasetConfig

    @classmethod
    def open(cls, target: str, config: Config, *, seed: int) -> Self:
        """Load a dataset and split it.

        Args:
            target: the name of a plugin, or the path of a CSV file or of a folder.
            config: an instance of `config_class(target)`.
            seed: the run's, used where `config` has no --split-seed.

        Raises:
            UnknownName: if there is none of that name.
            DataMissing: if its files are not there.
            UsageError: if it is something else, the options do not fit the data, or there is nothing to learn in it.
        """
        name = plugin_name(target)
        if name not in cls.names():
            if kind_of(target) == "file":
                hint = "A CSV file or a folder is one; methods that learn texts, such as char-rnn, take other files."
                raise UsageError(f"{target} is a file that no dataset is read from", hint)
            hint = "`rllab data list` says what is a dataset, and `rllab list` what learns environments and texts."
            check_kind(target, cls.kind, hint)
            what = "`rllab data list` lists them; the path of a CSV file or of a folder is one, too."
            raise UnknownName("dataset", target, cls.names(), what)
        found = source(name)
        assert isinstance(config, found.Config), f"{target} takes options of {found.Config.__name__}"
        split_seed = config.split_seed if config.split_seed is not None else seed
        data = found.load(target, config, np.random.default_rng(np.random.SeedSequence(split_seed)))
        if not len(data.train):
            raise UsageError(f"{target} has no items")
        data = split(data, config, split_seed)
        _check(target, data)
        return cls(target, config, data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one input."""
        return self.data.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes; none for regression."""
        return self.data.classes

    def _digest(self) -> str:
        """Return a hash of all parts and the names of the classes."""
        parts = self.data.parts.values()
        return digest_of((tensor for part in parts for tensor in (part.inputs, part.targets)), *self.classes)


def plugin_name(target: str) -> str:
    """Return which plugin opens a target: a path goes to `csv`, `folder`, ...; any other name is a plugin's own."""
    path = Path(target).expanduser()
    if target and target not in plugins.names(PLUGIN_GROUP) and path.is_dir():
        return "folder"
    if path.suffix and (path.is_file() or "/" in target or path.suffix == ".csv"):
        return path.suffix.removeprefix(".").lower()
    return target


def source(name: str) -> type[Source]:
    """Import a dataset plugin.

    Raises:
        PluginError: if it cannot be imported, or is no `Source`.
    """
    found: type[Source] = plugins.subclass(PLUGIN_GROUP, name, "dataset", Source)
    return found


def _check(target: str, data: Data) -> None:
    """Raise UsageError for data in which there is nothing to learn."""
    for part in data.parts.values():
        for name, values in (("inputs", part.inputs), ("targets", part.targets)):
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise UsageError(f"{target} has {name} that are NaN or infinite")
        numbers = part.targets if data.classes else part.targets[:0]
        if odd := numbers[(numbers < 0) | (numbers >= len(data.classes))].tolist():
            raise PluginError(f"{target} has a target of {odd[0]}, and names {len(data.classes)} classes")
    if data.classes and len(present := data.train.targets.bincount().nonzero()) < 2:
        raise UsageError(f"{target} has items of one class only to learn from: {data.classes[int(present[0])]!r}")


# --- splitting ------------------------------------------------------------------------------------


def split(data: Data, config: DatasetConfig, seed: int) -> Data:
    """Return the data with a test part, and a validation part where one is asked for.

    The rows are those of `sklearn.model_selection.train_test_split(..., random_state=seed)`, so that a score
    found with it can be found again.
    """
    data = _fold(data, config, seed) if config.folds else _shares(data, config, seed)
    return replace(data.finish(data), finish=None) if data.finish is not None else data


def _shares(data: Data, config: DatasetConfig, seed: int) -> Data:
    if data.test is not None and config.test_share is not None:
        raise UsageError("this dataset has a test part of its own, and takes no --test-share")
    if data.test is None:
        rest, test = _split_off(data.train, config.test_share or 0.2, seed, "--test-share")
        data = replace(data, train=rest, test=test)
    if config.validation_share is not None:
        data = replace(data, train=_with_validation(data), validation=None)
    if config.validation_share:
        rest, validation = _split_off(data.train, config.validation_share, seed, "--validation-share")
        data = replace(data, train=rest, validation=validation)
    return data


def _with_validation(data: Data) -> Part:
    """Return the training part, and after it the validation part that comes with the dataset."""
    if data.validation is None:
        return data.train
    both = (data.train, data.validation)
    return Part(torch.cat([part.inputs for part in both]), torch.cat([part.targets for part in both]))


def _split_off(part: Part, share: float, seed: int, option: str) -> tuple[Part, Part]:
    """Return the rest of a part, and a share of it."""
    number = math.ceil(share * len(part))
    if not 0 < number < len(part):
        raise UsageError(f"{option} {share:g} of {len(part)} items leaves nothing for the other part")
    order = torch.from_numpy(np.random.RandomState(seed % 2**32).permutation(len(part)))  # as scikit-learn does
    return part[order[number:]], part[order[:number]]


def _fold(data: Data, config: DatasetConfig, seed: int) -> Data:
    """Return the data with one of the folds as the test part; a test part of its own is left out."""
    items = _with_validation(data)
    if config.folds > len(items):
        raise UsageError(f"--folds {config.folds} of {len(items)} items leaves some folds empty")
    order = np.random.RandomState(seed % 2**32).permutation(len(items))
    folds = np.array_split(order, config.folds)
    rest = np.concatenate([rows for number, rows in enumerate(folds) if number != config.fold])
    train, test, validation = items[torch.from_numpy(rest)], items[torch.from_numpy(folds[config.fold])], None
    if config.validation_share:
        train, validation = _split_off(train, config.validation_share, seed, "--validation-share")
    return replace(data, train=train, validation=validation, test=test)


# --- comparing ------------------------------------------------------------------------------------


def unlike(trained: Data, other: Data) -> str | None:
    """Return why what learned from one dataset cannot predict the items of another, or None if it can."""
    if other.shape != trained.shape:
        return f"its inputs are {describe_shape(other.shape)}, and the model takes {describe_shape(trained.shape)}"
    if other.train.inputs.dtype != trained.train.inputs.dtype:
        kinds = {True: "bytes from 0 to 255", False: "numbers"}
        here, there = (kinds[data.train.inputs.dtype is torch.uint8] for data in (trained, other))
        return f"its inputs are {there}, and the model takes {here}"
    if other.features != trained.features and other.features and trained.features:
        return _unlike_names("features", trained.features, other.features)
    if other.classes != trained.classes:
        return _unlike_names("classes", trained.classes, other.classes)
    return None


def _unlike_names(what: str, trained: Sequence[str], other: Sequence[str]) -> str:
    """Return that the names are not the same; of many, those that are on one side only, or if none is, the first."""

    def listed(names: Sequence[str], others: Sequence[str]) -> str:
        if len(names) <= 12:
            return ", ".join(names) or "none (the target is a number)"
        odd = [name for name in names if name not in others] or list(names)
        return f"{', '.join(odd[:5])} and {len(names) - len(odd[:5])} more"

    return f"its {what} are {listed(other, trained)}, and the model knows {listed(trained, other)}"


# --- in words -------------------------------------------------------------------------------------


def describe_shape(shape: Sequence[int]) -> str:
    """Return a shape as a person says it: 8 numbers, images of 1x28x28, sequences of 3x1."""
    if len(shape) == 1:
        return f"{shape[0]} numbers"
    text = "x".join(map(str, shape))
    return f"images of {text}" if len(shape) == 3 else f"sequences of {text}"
