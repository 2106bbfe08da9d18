"""Data of one's own: a CSV file, and a folder with one subfolder a class, of images or of texts.

A table is read by `rllab_datasets.csvtable`, images and texts by `rllab_datasets.folders`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt, field_validator

from rllab.data import Data, DatasetConfig, Scaling, Source
from rllab.errors import UsageError
from rllab_datasets import csvtable, folders


class CSVConfig(DatasetConfig):
    """Options of a CSV file."""

    target_column: str | None = None
    """The column that is predicted, by its name in the first line. None: the last one."""

    predict: Literal["auto", "classes", "numbers"] = "auto"
    """Whether the target is a class or a number. Auto: classes for text and for at most 20 whole numbers that recur."""

    header: bool = True
    """The first line has the names of the columns; without it they are called 1, 2, 3, ..."""

    ignore: tuple[str, ...] = ()
    """Columns to leave out, such as names and numbers of rows."""

    missing: Literal["refuse", "drop"] = "refuse"
    """What becomes of a row with an empty cell, or NA, NaN, null or ?."""

    delimiter: Literal["auto", "comma", "semicolon", "tab"] = "auto"
    """What stands between two cells. Auto: what is most often in the first line."""

    scale: Scaling = "standard"


class CSV(Source):
    """Any CSV file, by its path: numbers as they are, text as a column of 0 and 1 for each value."""

    Config = CSVConfig
    takes_path = True

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Read the file, find out what each column is, and tell inputs from the target."""
        path = _path(target, "csv", "FILE.csv")
        if not path.is_file():
            raise UsageError(f"{target} is no file")
        table = csvtable.read(path, delimiter=config.delimiter, header=config.header)
        return csvtable.to_data(
            table,
            target_column=config.target_column,
            predict=config.predict,
            ignore=config.ignore,
            drop_missing=config.missing == "drop",
        )


class FolderConfig(DatasetConfig):
    """Options of a folder of images or texts."""

    resize: str | None = None
    """Bring all images to this size, height x width, such as 28x28."""

    grey: bool = False
    """Leave the colours out."""

    represent: folders.Represent = "counts"
    """How texts become numbers: which words occur, how often they do, or how often runs of characters do."""

    ngram: PositiveInt = 3
    """Characters in a run, for --represent ngrams."""

    vocabulary: PositiveInt = 1000
    """Words or runs that count: the most frequent ones of the training part."""

    @field_validator("resize")
    @classmethod
    def _is_a_size(cls, text: str | None) -> str | None:
        if text is not None:
            folders.size(text)
        return text


class Folder(Source):
    """Any folder, by its path, with a subfolder of images or texts for each class."""

    Config = FolderConfig
    takes_path = True

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Read the images, or the texts; subfolders `train` and `test` that have the classes in them are parts."""
        path = _path(target, "folder", "FOLDER")
        if not path.is_dir():
            raise UsageError(f"{target} is no folder")
        listing = folders.find(path)
        if config.cuts_test_part:
            listing = listing.pooled()
        if listing.kind == "images":
            return folders.images(
                listing, resize=folders.size(config.resize) if config.resize else None, grey=config.grey
            )
        return folders.texts(listing, represent=config.represent, ngram=config.ngram, vocabulary=config.vocabulary)


def _path(target: str, name: str, example: str) -> Path:
    if target == name:
        raise UsageError(f"{name} stands for data of your own: write its path", f"Such as `rllab data show {example}`.")
    return Path(target).expanduser()
