"""The run folder: everything one run leaves behind, and who may write to it.

runs/<task>/<method>/<name>/
  run.json              what was run, by what, where, and how it ended
  config.toml           every value; `rllab run METHOD TARGET --config` takes it
  metrics.jsonl         one object a line
  events.out.tfevents.* the same for TensorBoard, and the pictures and texts that were logged
  checkpoints/          full ones by step, and the weights of the best
  media/                pictures and texts, each by name and step; films of what was drawn several times
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from rllab.errors import RunFailed, RunNotFound, UsageError

_NEEDED = ("status", "method", "task", "seed", "unit", "objective", "config", "task_config", "options", "sources")

SCHEMA = 1
"""Version of the layout and of run.json."""
_PATIENCE = 1.0
"""Seconds to wait for the lock, which whoever asks for a run's status may hold for a moment."""
_RECENT = 50
"""How many run.json are read at most to find the last run."""


class RunFolder:
    """A folder of one run.

    Args:
        path: the folder, which holds a run.json unless it is new.
        info: what run.json says; read from the file if not given.

    Raises:
        RunNotFound: if there is no run in the folder, or its run.json is damaged.
    """

    def __init__(self, path: Path, info: dict[str, Any] | None = None) -> None:
        self.path = path
        self.info = _read_info(path) if info is None else info

    def check(self) -> None:
        """Raise RunNotFound if run.json lacks what every run has."""
        if missing := [name for name in _NEEDED if name not in self.info]:
            raise RunNotFound(f"{self.info_file} is damaged: it has no {', '.join(missing)}")

    def reread(self) -> None:
        """Read run.json again; what was known stays if it cannot be read."""
        with suppress(RunNotFound):
            self.info = _read_info(self.path)

    # --- the files

    @property
    def info_file(self) -> Path:
        """Return the path of run.json."""
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        """Return the path of config.toml."""
        return self.path / "config.toml"

    @property
    def metrics_file(self) -> Path:
        """Return the path of metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def media(self) -> Path:
        """Return the folder of pictures, text and video."""
        return self.path / "media"

    def media_file(self, name: str, step: int, suffix: str) -> Path:
        """Return the path of something to look at: media/regions-000001200.png."""
        return self.media / f"{_slug(name)}-{step:09d}{suffix}"

    def media_files(self) -> Iterator[tuple[str, int, Path]]:
        """Yield name, step and path of what is in media/ by step, in order."""
        for path in sorted(self.media.glob("*")):
            if match := re.fullmatch(r"(\w.*)-(\d{9,})", path.stem):
                yield match[1], int(match[2]), path

    # --- making one

    @classmethod
    def create(cls, parent: Path, name: str, info: dict[str, Any]) -> Self:
        """Make a folder `name` in `parent`; one that is there already is not touched, the new one gets .2 added.

        Raises:
            RunFailed: if it cannot be written.
        """
        with _writing(parent):
            parent.mkdir(parents=True, exist_ok=True)
            for repeat in range(1, 1_000_000):
                path = parent / (name if repeat == 1 else f"{name}.{repeat}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path, info)
        raise RunFailed(f"there are a million runs called {name} in {parent}")

    @classmethod
    def create_exactly(cls, path: Path, info: dict[str, Any]) -> Self:
        """Make the folder `path`, or take it if it is empty.

        Raises:
            UsageError: if there is something in it.
            RunFailed: if it cannot be written.
        """
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            if any(not entry.name.startswith(".") for entry in path.iterdir()):  # .lock, or half a run.json
                what = "holds a run already" if (path / "run.json").exists() else "is not empty"
                raise UsageError(
                    f"the folder {path} {what}",
                    f"Go on with it: `rllab resume {shlex.quote(str(path))}`, or --resume auto; "
                    "or take another --run-dir.",
                )
        return cls(path, info)

    # --- reading and writing

    def update(self, **values: Any) -> None:
        """Change values of run.json, atomically."""
        self.info |= values
        self.write(self.info_file, json.dumps(self.info, indent=1) + "\n")

    def write(self, file: Path, content: str | bytes) -> None:
        """Write a file of the folder atomically.

        Raises:
            RunFailed: if it cannot be written.
        """
        with _writing(self.path):
            temporary = file.with_name(f".{file.name}.tmp")
            try:
                file.parent.mkdir(exist_ok=True)
                if isinstance(content, str):
                    temporary.write_text(content, encoding="utf-8")
                else:
                    temporary.write_bytes(content)
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)

    def identity(self) -> dict[str, Any]:
        """Return what makes the run what it is: method, task, seed and every hyperparameter."""
        names = ("method", "task", "seed")
        return {
            **{name: self.info[name] for name in names},
            **self.info["config"],
            **self.info["task_config"],
        }

    # --- who writes

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no other process writes to it.

        Raises:
            UsageError: that says who holds it.
            RunFailed: if the folder cannot be written.
        """
        with _writing(self.path):
            lock = FileLock(self.path / ".lock", timeout=_PATIENCE)
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(
                    f"the run {self.path} is held by {self._holder()}", "Wait for it, or stop it."
                ) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def status(self) -> str:
        """Return "running", "finished", "stopped" or "failed"; "killed" if it says running and no process holds it."""
        status = str(self.info.get("status", "new"))
        if status != "running":
            return status
        lock = self.path / ".lock"
        if not lock.exists():  # who looks makes none
            return "killed"
        try:
            with FileLock(lock, timeout=0):
                return "killed"
        except (Timeout, OSError):
            return status

    def _holder(self) -> str:
        try:
            info = _read_info(self.path)
        except RunNotFound:
            return "another process"
        since = info.get("resumed") or info.get("started")
        return f"process {info.get('pid', '?')} on {info.get('host', '?')}, since {since}"


def _slug(name: str) -> str:
    """Return a name as a file may have it."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def process() -> dict[str, Any]:
    """Return what run.json says of the process that writes it."""
    return {"pid": os.getpid()}


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFound(f"there is no run in {path}", "`rllab run METHOD TARGET` starts one.") from None
    except (OSError, ValueError) as error:
        raise RunNotFound(f"{path / 'run.json'} cannot be read: {error}") from None
    if not isinstance(info, dict) or not isinstance(info.get("schema"), int):
        raise RunNotFound(f"{path / 'run.json'} is damaged, or not of rllab")
    if info["schema"] > SCHEMA:
        raise RunNotFound(f"{path / 'run.json'} was written by a newer rllab", "`pip install --upgrade rllab`.")
    return info


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a folder that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"cannot write to {path}: {error.strerror or error}",
            "Choose a place with --runs-dir or --run-dir.",
        ) from error


# --- finding one ----------------------------------------------------------------------------------


def find(run: str | os.PathLike[str], runs_dir: Path = Path("runs")) -> Path:
    """Return the folder of a run: a folder, a path below the runs folder, or "last" for the newest.

    Raises:
        RunNotFound: if there is none.
    """
    if str(run) == "last" and not Path("last").exists():
        return last(runs_dir)
    for path in (Path(run), runs_dir / run):
        if (path / "run.json").is_file():
            return path
    raise RunNotFound(
        f"there is no run {str(run)!r}, neither as a folder nor below {runs_dir}",
        "`last` is the newest run; --runs-dir says where runs are.",
    )


def last(runs_dir: Path) -> Path:
    """Return the folder of the run that was begun last."""
    # config.toml is written when a run begins, and again when it is extended: what was begun last is among the newest
    configs = sorted(runs_dir.glob("*/*/*/config.toml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not configs:
        raise RunNotFound(f"there are no runs in {runs_dir}", "`rllab run METHOD TARGET` starts one.")
    return max(configs[:_RECENT], key=_started).parent  # of the same second: the one written last


def _started(config: Path) -> str:
    """Return when a run was begun, as run.json says it; if it does not, when its config.toml was written."""
    with suppress(OSError, ValueError, AttributeError):
        if started := json.loads((config.parent / "run.json").read_text(encoding="utf-8")).get("started"):
            return str(started)
    return datetime.fromtimestamp(config.stat().st_mtime, UTC).isoformat(timespec="seconds")


def run_name(seed: int, given: Mapping[str, str], name: str | None = None) -> str:
    """Return a run's folder name: options given by hand, then the seed: `lr-0.001_seed0`.

    Args:
        seed: the run's seed.
        given: options given by hand, as text.
        name: the user's own name, which takes the options' place.
    """
    parts = [name] if name else [f"{option.replace('_', '-')}-{value}" for option, value in given.items()]
    lead, end = "_".join(parts), f"seed{seed}"
    lead = re.sub(r"[^\w.=,+-]+", "-", lead)[: 149 - len(end)]
    return f"{lead}_{end}" if lead else end
