"""CSV text -> named columns -> inputs and a target, and an error that names the line where something is amiss.

A column in which all cells are numbers has numbers. Any other has text, and becomes a column of 0 and 1 for each of
its values; but one in which nearly all cells are numbers is taken for a slip, and refused with the line it is in.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rllab.data import Data, classification, regression
from rllab.errors import UsageError, did_you_mean
from rllab.textfiles import DELIMITERS, read_rows

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NEARLY_ALL = 0.9
_MOST_CLASSES = 20
_MOST_VALUES = 100


@dataclass(frozen=True)
class Column:
    """A column: its name, its cells, and the line of the file that each stands in."""

    name: str
    cells: list[str]
    lines: list[int]

    def numbers(self, path: Path) -> NDArray[np.float64] | None:
        """Return the cells as numbers, or None if the column has text.

        Raises:
            UsageError: if all but a few are numbers.
        """
        odd = [row for row, cell in enumerate(self.cells) if not _NUMBER.fullmatch(cell)]
        if not odd:
            values = np.array([float(cell) for cell in self.cells])
            if len(large := np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)):
                row = int(large[0])
                raise UsageError(f"{path}, line {self.lines[row]}: {self.cells[row]} is too large a number")
            return values
        if len(odd) < (1 - _NEARLY_ALL) * len(self.cells):
            raise UsageError(
                f"{path}, line {self.lines[odd[0]]}: {self.cells[odd[0]]!r} in the column {self.name!r} is no number, "
                f"though {len(self.cells) - len(odd)} of the {len(self.cells)} there are",
                f"Mend it, leave the cell empty and say --missing drop, or leave the column out: --ignore {self.name}.",
            )
        return None


@dataclass(frozen=True)
class Table:
    """The columns of a file, all of one length."""

    path: Path
    columns: list[Column]


# --- reading --------------------------------------------------------------------------------------


def read(path: Path, *, delimiter: Literal["auto", "comma", "semicolon", "tab"] = "auto", header: bool = True) -> Table:
    """Read a file.

    Raises:
        UsageError: if it cannot be read, or has no rows, or rows that differ in length; with the line.
    """
    rows = read_rows(path, None if delimiter == "auto" else DELIMITERS[delimiter])
    if not rows:
        raise UsageError(f"{path} is empty")
    names = _names(path, rows[0][1]) if header else [str(number) for number in range(1, len(rows[0][1]) + 1)]
    rows = rows[1:] if header else rows
    if not rows:
        raise UsageError(f"{path} has names of columns, and no rows", "If that line is data, say --no-header.")
    for line, row in rows:
        if len(row) != len(names):
            raise UsageError(
                f"{path}, line {line}: {_cells(len(row))}, and {len(names)} in the first line",
                "--delimiter says what stands between cells." if len(names) == 1 else None,
            )
    lines = [line for line, _ in rows]
    columns = zip(names, zip(*(row for _, row in rows), strict=True), strict=True)
    return Table(path, [Column(name, list(cells), lines) for name, cells in columns])


def _names(path: Path, row: list[str]) -> list[str]:
    if all(_NUMBER.fullmatch(cell) for cell in row):
        raise UsageError(f"{path}: the first line has numbers, not names", "If it is data, say --no-header.")
    names = [cell or str(number) for number, cell in enumerate(row, start=1)]
    for name, times in Counter(names).items():
        if times > 1:
            raise UsageError(f"{path} has {times} columns called {name!r}")
    return names


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


# --- inputs and target ----------------------------------------------------------------------------


def to_data(
    table: Table,
    *,
    target_column: str | None = None,
    predict: Literal["auto", "classes", "numbers"] = "auto",
    ignore: tuple[str, ...] = (),
    drop_missing: bool = False,
) -> Data:
    """Return the inputs and the target of a table.

    Raises:
        UsageError: if a column is not there, a cell is missing, or the target is not what `predict` says.
    """
    path, names = table.path, [column.name for column in table.columns]
    wanted = names[-1] if target_column is None else target_column
    for name, option in ((wanted, "--target-column"), *((name, "--ignore") for name in ignore)):
        if name not in names:
            near = did_you_mean(name, names) or f"It has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
            raise UsageError(f"{option} {name}: {path} has no such column", near)
    if wanted in ignore:
        raise UsageError(f"--ignore {wanted}: that is the target", "--target-column chooses another one.")
    rows = len(table.columns[0].lines)
    table = _without_missing(table, ignore, drop=drop_missing)
    left_out = rows - len(table.columns[0].lines)
    notes = {"rows left out": f"{left_out} of {rows}, which lack a value"} if left_out else {}
    columns = {column.name: column for column in table.columns}
    target = columns.pop(wanted)
    inputs: dict[str, NDArray[np.float64]] = {}
    for column in columns.values():
        inputs |= _inputs(column, path)
    if not inputs:
        raise UsageError(f"{path} has no column beside the target {wanted!r}")
    stacked, features = np.stack(list(inputs.values()), 1), tuple(inputs)
    values = target.numbers(path) if predict != "classes" else None
    if values is None and predict == "numbers":
        raise UsageError(f"--predict numbers: the target {wanted!r} of {path} has text, such as {target.cells[0]!r}")
    if values is not None and (predict == "numbers" or not _are_classes(values)):
        return Data(regression(stacked, values), features=features, target=wanted, notes=notes)
    classes = _sorted(set(target.cells))
    number = {name: index for index, name in enumerate(classes)}
    labels = [number[cell] for cell in target.cells]
    if len(classes) < 2:
        raise UsageError(f"{path} has one class only: {wanted} is always {classes[0]!r}")
    return Data(classification(stacked, labels), tuple(classes), features=features, target=wanted, notes=notes)


def _without_missing(table: Table, ignore: tuple[str, ...], *, drop: bool) -> Table:
    kept = [column for column in table.columns if column.name not in ignore]
    for column in kept:
        missing = (row for row, cell in enumerate(column.cells) if cell.lower() in _MISSING)
        if not drop and (row := next(missing, None)) is not None:
            raise UsageError(
                f"{table.path}, line {column.lines[row]}: nothing in the column {column.name!r}"
                + (f" but {column.cells[row]!r}" if column.cells[row] else ""),
                f"--missing drop leaves such rows out, --ignore {column.name} the column.",
            )
    rows = [n for n in range(len(kept[0].lines)) if all(column.cells[n].lower() not in _MISSING for column in kept)]
    if not rows:
        raise UsageError(f"{table.path} has no row without a missing value")
    return Table(table.path, [Column(c.name, [c.cells[n] for n in rows], [c.lines[n] for n in rows]) for c in kept])


def _inputs(column: Column, path: Path) -> dict[str, NDArray[np.float64]]:
    """Return a column of numbers as it is, one of text as a column of 0 and 1 for each value."""
    if (numbers := column.numbers(path)) is not None:
        return {column.name: numbers}
    values = sorted(set(column.cells))
    if len(values) > min(_MOST_VALUES, 0.5 * len(column.cells)) and len(values) > 10:
        raise UsageError(
            f"the column {column.name!r} of {path} has {len(values)} different texts in {len(column.cells)} rows",
            f"That is too many for a column each; --ignore {column.name} leaves it out.",
        )
    cells = np.array(column.cells)
    return {f"{column.name}={value}": (cells == value).astype(float) for value in values}


def _are_classes(values: NDArray[np.float64]) -> bool:
    """Whether numbers are those of classes: at most 20 different whole ones, each there twice on average."""
    different = len(np.unique(values))
    return bool((values == np.round(values)).all()) and different <= min(_MOST_CLASSES, len(values) / 2)


def _sorted(classes: set[str]) -> list[str]:
    """Return names in their order: as numbers if all of them are."""
    if all(_NUMBER.fullmatch(name) and math.isfinite(float(name)) for name in classes):
        return sorted(classes, key=lambda name: (float(name), name))
    return sorted(classes)
