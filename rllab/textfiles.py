"""Files that people write: texts in UTF-8 and rows of CSV, and errors that name the line where something is amiss."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rllab.errors import UsageError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
"""What may stand between two cells, by name."""


def read_text(path: Path) -> str:
    """Return what is in a file, without a byte order mark.

    Raises:
        UsageError: if it cannot be read, or is not UTF-8; with the line, and the byte's offset from the beginning.
    """
    raw = b""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        hint = f"`iconv -f latin1 -t utf-8 {path.name}` turns one in Latin-1 into UTF-8."
        byte = f"byte {raw[error.start]:#04x} at offset {error.start}"
        raise UsageError(f"{path}, line {line}: not UTF-8 ({byte})", hint) from None


def read_rows(path: Path, delimiter: str | None = None) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not empty: the line in which each begins, and its cells.

    Cells may be quoted, and quoted ones have line ends in them.

    Args:
        path: the file.
        delimiter: what stands between two cells; None: the one of `DELIMITERS` that is most often in the first line.

    Raises:
        UsageError: if it cannot be read; with the line.
    """
    text = read_text(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    between = delimiter or max(DELIMITERS.values(), key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    begun = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((begun, [cell.strip() for cell in row]))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}, line {begun}: {error}", "A quote may be open, or stand within a cell.") from None
    return rows
