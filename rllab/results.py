"""Runs from Python: start one, go on with one, read one.

run = rllab.run("dqn", "CartPole-v1", seed=0, timesteps=50_000)
run.metrics["eval/return"].value        # array
agent = run.load("best")
actions, _ = agent.act(observations, deterministic=True)
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rllab import checkpoint, experiment, planning, runfolder
from rllab.agent import Agent
from rllab.algorithm import Algorithm
from rllab.conditions import check_required
from rllab.errors import CheckpointError
from rllab.runfolder import RunFolder
from rllab.seeding import Streams, preserved_globals

_log = logging.getLogger("rllab")


class Series(NamedTuple):
    """The values of one metric over a run, as arrays of equal length."""

    step: np.ndarray
    """Units trained."""
    time: np.ndarray
    """Seconds of training."""
    value: np.ndarray
    """NaN where it was not finite."""


class MetricsTable(Mapping[str, Series]):
    """The metrics of a run by name, read from metrics.jsonl; half a last line is passed over."""

    def __init__(self, path: Path) -> None:
        self._lines = list(_lines(path))

    def __getitem__(self, name: str) -> Series:
        rows = [line for line in self._lines if name in line]
        if not rows:
            raise KeyError(f"{name!r} was not measured; there are: {', '.join(self)}")
        columns = [[np.nan if row[key] is None else row[key] for row in rows] for key in ("step", "time", name)]
        return Series(np.array(columns[0], int), np.array(columns[1], float), np.array(columns[2], float))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for line in self._lines for key in line if key not in {"step", "time"}))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Run:
    """A run that was made: its metrics, its files, its trained model."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        """Return the run folder."""
        return self.folder.path

    @property
    def info(self) -> dict[str, Any]:
        """Return what run.json says, as it is now."""
        self.folder.reread()
        return self.folder.info

    @property
    def status(self) -> str:
        """Return "finished", "stopped", "failed", "running", or "killed"."""
        return self.folder.status

    @property
    def metrics(self) -> MetricsTable:
        """Return the metrics by name, as they are now."""
        return MetricsTable(self.folder.metrics_file)

    def load(self, which: str | int = "last", *, device: str = "auto") -> Algorithm:
        """Return the trained model; it can act, sample or predict, and be evaluated.

        Args:
            which: "last", "best", or the step of a checkpoint.
            device: where to put it.

        Raises:
            CheckpointError: if there is no such checkpoint, or it is damaged.
        """
        planned = planning.reopen(self.folder, {"device": device})
        path, manifest = self._checkpoint(which)
        experiment.check_note(path, manifest, self.folder)
        with preserved_globals():
            algorithm, _ = experiment.build(planned)
        try:
            algorithm.load_weights(checkpoint.load_weights(path, manifest))
        except ValueError as error:
            raise CheckpointError(f"the checkpoint {path} does not fit this version of the method: {error}") from error
        algorithm.count = int(manifest["step"])
        return algorithm

    def evaluate(
        self,
        which: str | int = "last",
        *,
        episodes: int = 100,
        seed: int = 0,
        deterministic: bool = True,
        device: str = "auto",
    ) -> dict[str, float]:
        """Measure the trained model anew; agents on episodes that training and its evaluations never saw.

        Args:
            which: "last", "best", or the step of a checkpoint.
            episodes: how many (agents only).
            seed: of these episodes.
            deterministic: take the best action rather than a sample (agents only).
            device: where to compute.
        """
        algorithm = self.load(which, device=device)
        if isinstance(algorithm, Agent):
            seeds = Streams(seed).sequence("evaluation anew")
            metrics = algorithm.evaluate(episodes, deterministic=deterministic, seeds=seeds)
        else:
            metrics = algorithm.evaluate()
        return {"step": float(algorithm.count), **{name: float(value) for name, value in metrics.items()}}

    def _checkpoint(self, which: str | int) -> tuple[Path, dict[str, Any]]:
        """Return a checkpoint and its manifest; for "last", the newest one that verifies."""
        folder, there = self.folder.checkpoints, checkpoint.steps(self.folder.checkpoints)
        if which == "last" and there:
            return checkpoint.newest_sound(folder, _log.warning)
        name = checkpoint.name_of(int(which)) if str(which).isdigit() and int(which) in there else None
        if which == checkpoint.BEST and (folder / checkpoint.BEST).is_dir():
            name = checkpoint.BEST
        if name is not None:
            return folder / name, checkpoint.verify(folder / name)
        known = ", ".join(["last", *(["best"] if (folder / checkpoint.BEST).is_dir() else []), *map(str, there)])
        raise CheckpointError(
            f"there is no checkpoint {which!r} in {self.path}", f"There are: {known}." if there else None
        )

    def __repr__(self) -> str:
        best = self.info.get("best")
        score = f", best {best.get('metric', self.info['objective']['metric'])} {best['value']:.4g}" if best else ""
        return f"<Run {self.path}: {self.status}{score}>"


def run(method: str, target: str, *, progress: bool = True, **options: Any) -> Run:
    """Train `method` on `target`; what `rllab run METHOD TARGET` does.

    Args:
        method: name of the method, such as "dqn".
        target: an environment or dataset, such as "CartPole-v1".
        progress: whether to show it.
        **options: options of the command by name: `timesteps=50_000`, `seed=1`, `runs_dir="runs"`.

    Returns:
        The run; its status is "stopped" if it was interrupted, and `rllab.resume(run.path)` goes on.

    Raises:
        RllabError: if an option is wrong, training fails, or a condition of `require` does not hold.
    """
    planned = planning.plan(method, target, options)
    with preserved_globals(), _preserved_threads():
        folder, status = experiment.start(planned, _watch(progress))
    if status.state == "finished":
        check_required(planned.options.require, folder.info.get("metrics") or {}, str(folder.path))
    return Run(folder)


def resume(run: str | os.PathLike[str], *, progress: bool = True, extend: int | None = None, **options: Any) -> Run:
    """Go on with a run; what `rllab resume RUN` does.

    Args:
        run: its folder, a path below runs/, or "last".
        progress: whether to show it.
        extend: a larger budget.
        **options: options about how it is run, such as `eval_every="10%"`.
    """
    with preserved_globals(), _preserved_threads():
        folder, _ = experiment.resume(RunFolder(runfolder.find(run)), options, extend=extend, watch=_watch(progress))
    return Run(folder)


def load(run: str | os.PathLike[str], *, runs_dir: str | os.PathLike[str] = "runs") -> Run:
    """Return an older run.

    Args:
        run: its folder, a path below `runs_dir`, or "last".
        runs_dir: where runs are.

    Raises:
        RunNotFound: if there is none.
    """
    return Run(RunFolder(runfolder.find(run, Path(runs_dir))))


@contextmanager
def _preserved_threads() -> Iterator[None]:
    """Leave torch's threads, and how this thread computes with what is nearly zero, as they were."""
    threads = torch.get_num_threads()
    # torch cannot be asked; half the smallest normal number is zero where such numbers are flushed
    flushed = not torch.tensor(torch.finfo(torch.float32).tiny).div(2).item()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def _watch(progress: bool) -> experiment.Watch | None:
    if not progress:
        return None
    from rllab.cli.progress import watch

    return watch


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of a run that is being written, or was killed
            if isinstance(line, dict) and "step" in line:
                yield line
