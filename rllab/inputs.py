"""What a person has -> inputs of a model: pictures, rows of a CSV file, numbers, text.

In: what was written on the command line, and the data the model was trained on, which says what its inputs look
like. Out: tensors of that shape and type, not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rllab.data import Data, describe_shape
from rllab.errors import UsageError, did_you_mean
from rllab.textfiles import read_rows, read_text

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""What Pillow calls pictures of so many channels."""


class Item(NamedTuple):
    """One input: what to call it, and its tensor (*shape)."""

    name: str
    inputs: Tensor


def read(written: str, data: Data, *, resize: bool = False) -> list[Item]:
    """Return the inputs that a person means; a CSV file has one in each row.

    Args:
        written: the path of a picture, a CSV or a text file; numbers with commas between them; or a text.
        data: what the model was trained on.
        resize: whether pictures of another size are resized.

    Raises:
        UsageError: if it is not what the model takes.
    """
    path = Path(written).expanduser()
    if data.encode is not None:
        if path.suffix.lower() in {".txt", ".md"} and not _is_file(path):
            raise UsageError(f"there is no file {written}")
        return [Item(written, data.encode(read_text(path) if _is_file(path) else written))]
    if data.train.inputs.dtype is torch.uint8 and len(data.shape) == 3:
        return [Item(written, picture(path, data.shape, resize=resize))]
    if path.suffix.lower() == ".csv" or _is_file(path):
        return [Item(f"{written}:{line}", _row(f"{written}:{line}", cells, data)) for line, cells in table(path, data)]
    cells, whole = [cell.strip() for cell in written.split(",")], _whole(data.features)
    if len(cells) == len(whole) < len(data.features):
        cells = _spread(written, cells, whole, [_column(name, whole, path) for name in data.features])
    return [Item(written, _row(written, cells, data))]


def picture(path: Path, shape: Sequence[int], *, resize: bool = False) -> Tensor:
    """Return a picture as (channels, height, width) of uint8, grey or in colours as the model has it.

    Raises:
        UsageError: if it cannot be read, or has another size and `resize` is not set.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", "The model takes pictures.") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is no picture that can be read: {error}") from None
    if channels not in _MODES:
        raise UsageError(f"the model takes {describe_shape(shape)}, and no picture has {channels} channels")
    if image.mode.startswith(("I", "F")):
        raise UsageError(f"{path} has more than 8 bits a pixel", "Save it with 8 bits first.")
    image = image.convert(_MODES[channels])
    if image.size != (width, height):
        if not resize:
            raise UsageError(
                f"{path} has {image.width} x {image.height} pixels, and the model takes {width} x {height}",
                "--resize resizes it.",
            )
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # as folders of images are
    pixels = np.array(image, np.uint8).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def table(path: Path, data: Data) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file, with their line numbers, in the columns of the training data.

    A first row that is not all numbers is a header: then columns are found by name, and others are passed over. But
    it is data if it has a kind that the training data has, in the column that has it there.

    Raises:
        UsageError: if it cannot be read, or lacks a column.
    """
    rows = read_rows(path)
    if rows and not all(map(_is_number, rows[0][1])):
        whole, first = _whole(data.features), rows[0][1]
        kinds = {f"{name}={cell}" for name, cell in zip(whole, first, strict=False)} & set(data.features)
        bare = len(first) == len(whole) and bool(kinds)
        header = whole if bare else rows.pop(0)[1]
        columns = [_column(name, header, path) for name in data.features or header]
        rows = [(line, _spread(f"{path}:{line}", cells, header, columns)) for line, cells in rows]
    if not rows:
        raise UsageError(f"{path} has no rows")
    return rows


def _column(name: str, header: list[str], path: Path) -> tuple[int, str | None]:
    """Return where a column of the training data is; a column `cut=Ideal` may also be the value Ideal of `cut`."""
    if name in header:
        return header.index(name), None
    whole, _, value = name.partition("=")
    if value and whole in header:
        return header.index(whole), value
    missing = whole if value else name
    raise UsageError(f"{path} has no column {missing!r}, which the model takes", did_you_mean(missing, header))


def _whole(features: Sequence[str]) -> list[str]:
    """Return the columns that the features were made of: `cut` for `cut=Fair` and `cut=Ideal`."""
    return list(dict.fromkeys(name.partition("=")[0] for name in features))


def _spread(
    name: str, cells: Sequence[str], header: Sequence[str], columns: Sequence[tuple[int, str | None]]
) -> list[str]:
    """Return a row as it stands in a file in the columns of the training data, each kind as 0 or 1."""
    if len(cells) != len(header):
        raise UsageError(f"{name} has {len(cells)} columns, and the header has {len(header)}")
    kinds: dict[int, list[str]] = {}
    for at, value in columns:
        if value is not None:
            kinds.setdefault(at, []).append(value)
        elif not cells[at]:
            raise UsageError(f"{name} has nothing in the column {header[at]!r}")
    for at, known in kinds.items():
        if cells[at] not in known:
            listed = did_you_mean(cells[at], known) or f"The model knows {', '.join(known[:20])}."
            raise UsageError(f"{name}: there is no {header[at]} {cells[at]!r}", listed)
    return [_cell(cells[at], value) for at, value in columns]


def _cell(cell: str, value: str | None) -> str:
    return cell if value is None else str(int(cell == value))


def _row(name: str, cells: Sequence[str], data: Data) -> Tensor:
    """Return numbers written as text as one input."""
    expected = math.prod(data.shape)
    if len(cells) == 1 != expected and not _is_number(cells[0]):
        raise UsageError(f"{name} is neither a file nor {describe_shape(data.shape)} with commas between them")
    if len(cells) != expected:
        listed = f": {', '.join(data.features)}" if 0 < len(data.features) <= 30 else ""
        raise UsageError(f"{name} has {len(cells)} numbers, and the model takes {describe_shape(data.shape)}{listed}")
    if wrong := [cell for cell in cells if not _is_number(cell)]:
        raise UsageError(f"{name}: {wrong[0]!r} is no number")
    return torch.tensor([float(cell) for cell in cells]).to(data.train.inputs.dtype).reshape(data.shape)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is too long for the name of a file
        return False
