"""Files of datasets: where they lie on this machine, and how they come there.

In: a file's name, the mirrors that have it, and how to check it. Out: the file in its folder, whole and checked, or
an error that says what each mirror answered. What has come stays in NAME.part whatever happens, and the next fetch
goes on from there; a file that is not what it should be is kept aside as NAME.corrupt, and never used.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import platformdirs
from filelock import FileLock, Timeout

from rllab import stopping
from rllab.errors import RunFailed, UsageError

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and those it has in all, where that is known."""

Check: TypeAlias = Callable[[Path], str | None]
"""Returns what is wrong with a file, or None."""

ATTEMPTS = 4
"""How often in a row a mirror is asked that answers nothing, or nothing new."""
_CHUNK = 1 << 18
_TIMEOUT = 30.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be another one a little later."""

_log = logging.getLogger("rllab")


class FetchFailed(RunFailed):
    """No mirror has given the file."""


class Fetchable:
    """What every plugin that brings data says of its files: whether they are here, and how they come."""

    takes_path: ClassVar[bool] = False
    """Whether what the user writes is the path of data of their own."""

    @classmethod
    def missing(cls) -> str | None:
        """Return what is not on this machine, in words, or None if `load` can begin."""
        return None

    @classmethod
    def fetch(cls, folder: Path, mirrors: Sequence[str] = (), progress: Progress | None = None) -> list[Path]:
        """Bring the files into a folder, and return where they are; a source that can do so overrides this.

        Args:
            folder: where they go.
            mirrors: where they come from; none: the mirrors that the source knows.
            progress: told of every piece that comes.

        Raises:
            FetchFailed: if no mirror gives them.
        """
        raise UsageError("there is nothing to fetch: its data is made here, comes with a package, or is a path")

    @classmethod
    def can_fetch(cls) -> bool:
        """Return whether `fetch` brings its files."""
        return getattr(cls.fetch, "__func__", None) is not getattr(Fetchable.fetch, "__func__", None)


# --- where files lie ------------------------------------------------------------------------------


def data_folder() -> Path:
    """Return the folder that data is fetched into: $RLLAB_DATA, else one in the user's data folder."""
    chosen = os.environ.get("RLLAB_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("rllab", appauthor=False)


def places(name: str) -> list[Path]:
    """Return the folders in which a dataset may lie, in the order they are looked at.

    $RLLAB_DATA/NAME, NAME in the user's data folder, and the place of Debian's packages of datasets.
    """
    user = platformdirs.user_data_path("rllab", appauthor=False)
    return list(dict.fromkeys([data_folder() / name, user / name, Path("/usr/share/datasets") / name]))


# --- how they come there --------------------------------------------------------------------------


def mirror(text: str) -> str:
    """Return what was given as --from as the beginning of an address: a URL, or the path of a folder.

    Raises:
        UsageError: if it is neither, such as the file itself.
    """
    if re.match(r"https?://.|file:/", text):
        return text.rstrip("/") + "/"
    path = Path(text).expanduser()
    if path.is_dir():
        return path.resolve().as_uri() + "/"
    if path.is_file():
        raise UsageError(f"{text} is a file: name the folder that it lies in", f"Write `--from {path.parent}`.")
    raise UsageError(f"{text} is no address to fetch from", "Write one that begins with https://, or a folder.")


def fetch(
    name: str,
    mirrors: Sequence[str],
    folder: Path,
    check: Check,
    *,
    progress: Progress | None = None,
    wait: float = 1.0,
) -> Path:
    """Bring a file into a folder, unless it is there already.

    Args:
        name: of the file, the same on each mirror.
        mirrors: addresses that `name` is added to; the first that gives a sound file is enough.
        folder: where it goes; made if need be.
        check: what is wrong with a file; also asked about one that is there.
        progress: told of every piece that comes.
        wait: seconds before a mirror is asked again; twice as long each time.

    Raises:
        FetchFailed: if no mirror gives it, with the answer of each.
        StopRequested: after a signal; what has come is kept.
    """
    goal, part = folder / name, folder / f"{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{name}.lock", name):
            if goal.is_file():
                if (wrong := check(goal)) is None:
                    return goal
                _put_aside(goal, goal, wrong)
            answers = []
            for address in mirrors:
                failed = _from_mirror(address + name, part, goal, check, progress, wait)
                if failed is None:
                    return goal
                answers.append(f"{address}{name}: {failed}")
    except OSError as error:
        raise FetchFailed(f"cannot write to {folder}: {error.strerror or error}") from None
    except (KeyboardInterrupt, stopping.StopRequested):
        if part.is_file() and part.stat().st_size:
            _log.info("%d bytes of %s are kept; the next fetch goes on from there", part.stat().st_size, name)
        raise
    raise FetchFailed(f"{name} could not be fetched:\n  " + "\n  ".join(answers), "--from URL takes another mirror.")


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Hold a lock in the block, after waiting as long as another process fetches the same file."""
    lock = FileLock(path)
    told = False
    while not lock.is_locked:
        stopping.check()
        with suppress(Timeout):
            lock.acquire(timeout=0.2, poll_interval=0.05)
        if not lock.is_locked and not told:
            _log.info("another process is fetching %s: waiting for it", name)
            told = True
    try:
        yield
    finally:
        lock.release()


def _from_mirror(url: str, part: Path, goal: Path, check: Check, progress: Progress | None, wait: float) -> str | None:
    """Fetch from one mirror; return why that failed, or None. A resumed file that is wrong is fetched anew, whole."""
    while True:
        resumed = part.is_file() and part.stat().st_size > 0
        failed = _with_patience(url, part, progress, wait)
        if failed is not None:
            return failed
        wrong = check(part)
        if wrong is None:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(goal)
            return None
        _put_aside(part, goal, wrong)
        if not resumed:
            return wrong


def _with_patience(url: str, part: Path, progress: Progress | None, wait: float) -> str | None:
    """Fetch into `part`, again and again as long as the mirror gives something; return why that failed, or None."""
    fruitless = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _go_on(url, part, progress)
            return None
        except urllib.error.HTTPError as error:
            failed = f"{error.code} {error.reason}"
            error.close()
            if error.code not in _PASSING:
                return failed
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            failed = str(reason) or type(reason).__name__
            if isinstance(reason, socket.gaierror | FileNotFoundError | ConnectionRefusedError):
                return failed
        after = part.stat().st_size if part.is_file() else 0
        fruitless = 0 if after > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            return f"{failed} ({ATTEMPTS} times in a row)"
        _pause(wait * 2**fruitless if fruitless else 0.0)


class _CutOff(http.client.HTTPException):
    """The connection ended before the file did."""


def _go_on(url: str, part: Path, progress: Progress | None) -> None:
    """Ask for what `part` lacks, and write what comes; a mirror that knows no ranges sends all of it again."""
    there = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "rllab", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is as long as the file, or longer
            raise
        total = _number(r"bytes \*/(\d+)", error.headers.get("Content-Range"))
        error.close()
        if total == there:
            return
        part.unlink()
        raise _CutOff("the part that was there did not fit") from None
    with answer:
        start = _number(r"bytes (\d+)-", answer.headers.get("Content-Range")) if there else None
        if start is not None and start != there:
            part.unlink()
            raise _CutOff(f"asked for byte {there} and what follows, it sends from byte {start} on")
        there = start or 0
        length = _number(r"(\d+)$", answer.headers.get("Content-Length"))
        total = None if length is None else there + length
        with part.open("ab" if there else "wb", buffering=0) as file:  # unbuffered: what has come survives a kill
            while (total is None or there < total) and (chunk := _read(answer)):
                file.write(chunk)
                there += len(chunk)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), there, total)
                stopping.check()
    if total is not None and there < total:
        raise _CutOff(f"the connection ended after {there} of {total} bytes")


def _read(answer: Any) -> bytes:
    """Return what has come, without waiting for more; what goes wrong here is the connection's fault."""
    try:
        piece: bytes = answer.read1(_CHUNK)
        return piece
    except OSError as error:
        raise _CutOff(str(error) or type(error).__name__) from None


def _number(pattern: str, text: str | None) -> int | None:
    found = re.match(pattern, text or "")
    return int(found[1]) if found else None


def _put_aside(found: Path, goal: Path, wrong: str) -> None:
    aside = goal.with_name(f"{goal.name}.corrupt")
    found.replace(aside)
    _log.warning("%s: %s; it is kept aside as %s", goal.name, wrong, aside)


def _pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stopping.check()
        time.sleep(min(left, 0.1))
