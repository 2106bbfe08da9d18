"""Texts: a file, a folder of files, the sources of Python's standard library, and Tiny Shakespeare."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PositiveInt, field_validator

from rllab import fetching
from rllab.data import DataMissing
from rllab.errors import UsageError
from rllab.text import TextConfig, TextSource
from rllab.textfiles import read_text

# --- of one's own ---------------------------------------------------------------------------------


class File(TextSource):
    """Any file in UTF-8, by its path: every character as it is, without a byte order mark."""

    takes_path = True

    @classmethod
    def load(cls, target: str, config: Any) -> str:
        """Return what is in the file; line ends stay what they are."""
        path = _path(target, "file", "book.txt")
        if not path.is_file():
            where = None if path.is_absolute() else f"It was looked for in the current folder, {Path.cwd()}."
            raise UsageError(f"{target} is no file", where)
        return _read(path)


class FolderConfig(TextConfig):
    """Options of a folder of texts."""

    pattern: tuple[str, ...] = ("*",)
    """Which files are read, by their names: such as *.txt or *.md; several with commas."""

    @field_validator("pattern")
    @classmethod
    def _some(cls, pattern: tuple[str, ...]) -> tuple[str, ...]:
        if not all(pattern) or not pattern:
            raise ValueError("write at least one, such as *.txt")
        return pattern


class Folder(TextSource):
    """All files in UTF-8 below a folder, by its path, one after the other in the order of their paths."""

    Config = FolderConfig
    takes_path = True

    @classmethod
    def load(cls, target: str, config: Any) -> str:
        """Return the files' texts as they are; one that does not end with a line end gets one."""
        texts = [_read(file) for file in cls._files(target, config)]
        return "".join(text if text.endswith("\n") or not text else text + "\n" for text in texts)

    @classmethod
    def notes(cls, target: str, config: Any) -> dict[str, str]:
        """Return how many files there are."""
        return {"files": str(len(cls._files(target, config)))}

    @classmethod
    def _files(cls, target: str, config: FolderConfig) -> list[Path]:
        """Return the files below the folder that fit the pattern, sorted; hidden ones are left out."""
        folder = _path(target, "folder", "./books")
        if not folder.is_dir():
            raise UsageError(f"{target} is no folder")
        wanted = " or ".join(config.pattern)
        found = [file for file in _walk(folder) if any(fnmatch.fnmatch(file.name, one) for one in config.pattern)]
        if not found:
            raise UsageError(f"{target} has no files called {wanted}, hidden ones aside")
        return found


def _path(target: str, name: str, example: str) -> Path:
    if target.partition("@")[0] == name:
        raise UsageError(f"{name} stands for a text of your own: write its path", f"Such as {example}.")
    return Path(target).expanduser()


def _read(path: Path) -> str:
    """Return a text; what holds a NUL is data of another kind, even if it happens to be UTF-8."""
    text = read_text(path)
    if (place := text.find("\0")) >= 0:
        offset, line = len(text[:place].encode()), text.count("\n", 0, place) + 1
        raise UsageError(
            f"{path}, line {line}: no text (byte 0x00 at offset {offset})",
            "In a folder, --pattern says which files are read, such as '*.txt'.",
        )
    return text


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted by path, without hidden ones."""

    def told(error: OSError) -> None:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}")

    def visible(names: list[str]) -> Iterator[str]:
        return (name for name in names if not name.startswith("."))

    found = []
    for place, folders, files in os.walk(folder, onerror=told):
        folders[:] = visible(folders)
        found += [path for name in visible(files) if (path := Path(place, name)).is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


# --- Python's standard library --------------------------------------------------------------------

_LEFT_OUT = frozenset(
    {
        *("site-packages", "dist-packages", "__pycache__", "lib-dynload"),  # what is no part of it, and no source
        *("test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip"),  # its tests, and programs
        *("encodings", "pydoc_data"),  # tables, and texts in English
    }
)
"""Folders that are not read."""


class StdlibConfig(TextConfig):
    """Options of the sources of Python's standard library."""

    limit: PositiveInt | None = 1_000_000
    """Characters at most, from the beginning. None: all of them, some eight million."""


class Stdlib(TextSource):
    """The sources of Python's standard library, which every machine has: modules in the order of their paths.

    Only files in ASCII: a handful of others would double the vocabulary with characters that hardly occur.
    Left out are tests, tables of encodings, IDLE, lib2to3 and what was generated for this machine.
    """

    Config = StdlibConfig

    @classmethod
    def load(cls, target: str, config: Any) -> str:
        """Return the first `limit` characters."""
        if (missing := cls.missing()) is not None:
            raise DataMissing(f"stdlib: {missing}", "This Python comes without its sources; another one has them.")
        texts: list[str] = []
        size = 0
        for file in _modules(_stdlib()):
            raw = file.read_bytes().replace(b"\r\n", b"\n")  # Windows has other line ends, and should not
            if raw.isascii():
                texts.append(raw.decode("ascii"))
                size += len(raw)
            if config.limit is not None and size >= config.limit:
                break
        return "".join(texts)[: config.limit]

    @classmethod
    def missing(cls) -> str | None:
        """Return where there are no sources, if there are none."""
        return None if (_stdlib() / "argparse.py").is_file() else f"no sources in {_stdlib()}"

    @classmethod
    def notes(cls, target: str, config: Any) -> dict[str, str]:
        """Return whose library it is: the text is another one with another version of Python."""
        return {"from": f"{platform.python_implementation()} {platform.python_version()}"}


def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _modules(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(("config-", "."))]
        # _sysconfigdata holds how this Python was built
        names = [name for name in files if name.endswith(".py") and not name.startswith(("_sysconfigdata", "."))]
        found += [Path(place, name) for name in names]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


# --- Tiny Shakespeare -----------------------------------------------------------------------------


class TinyShakespeare(TextSource):
    """Forty thousand lines of Shakespeare's plays: 1,115,394 characters, 65 different ones.

    Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks" (2015), and the repository char-rnn.
    """

    name: ClassVar[str] = "tinyshakespeare"
    file: ClassVar[str] = "input.txt"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    )
    sha256: ClassVar[str] = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

    @classmethod
    def load(cls, target: str, config: Any) -> str:
        """Return the text as it is published."""
        path = cls._find()
        if path is None:
            raise DataMissing(
                f"{cls.name} is not on this machine; looked in {', '.join(map(str, fetching.places(cls.name)))}",
                f"`rllab data fetch {cls.name}` downloads it; or set RLLAB_DATA to the folder "
                f"with {cls.name}/{cls.file}.",
            )
        if (wrong := cls._check(path)) is not None:
            mend = f"Move it away; `rllab data fetch {cls.name}` brings the right one."
            raise UsageError(f"{path} is not the published file: it {wrong}", mend)
        return read_text(path)

    @classmethod
    def notes(cls, target: str, config: Any) -> dict[str, str]:
        """Return where the file lies."""
        path = cls._find()
        return {"from": str(path.parent)} if path else {}

    @classmethod
    def missing(cls) -> str | None:
        """Return the first place where the file should be, if it is nowhere."""
        return None if cls._find() else f"not in {fetching.places(cls.name)[0]}"

    @classmethod
    def fetch(cls, folder: Path, mirrors: Sequence[str] = (), progress: fetching.Progress | None = None) -> list[Path]:
        """Download the file."""
        return [fetching.fetch(cls.file, mirrors or cls.mirrors, folder, cls._check, progress=progress)]

    @classmethod
    def _find(cls) -> Path | None:
        files = (folder / cls.file for folder in fetching.places(cls.name))
        return next((file for file in files if file.is_file()), None)

    @classmethod
    def _check(cls, path: Path) -> str | None:
        """Return what is wrong with a file."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return None if digest == cls.sha256 else f"has SHA-256 {digest[:12]}..., should have {cls.sha256[:12]}..."
