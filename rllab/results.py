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

from rllab import checkpoint, experiment, planning, recording, runfolder
from rllab import state as states
from rllab.agent import Agent
from rllab.algorithm import Algorithm, Metrics
from rllab.conditions import check_required
from rllab.config import flag
from rllab.data import DatasetTask, unlike
from rllab.errors import CheckpointError, UsageError, did_you_mean
from rllab.folds import open_option
from rllab.parts import films
from rllab.recording import Recording
from rllab.runfolder import RunFolder
from rllab.seeding import Streams, preserved_globals
from rllab.supervised import SupervisedModel

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
        self._captions: dict[str, str] | None = None

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

    @property
    def captions(self) -> dict[str, str]:
        """Return what stands beside the numbers of metrics: of the last `evaluate`, before one those of the run."""
        return dict(self.info.get("captions") or {}) if self._captions is None else self._captions

    def load(self, which: str | int = "last", *, device: str = "auto") -> Algorithm:
        """Return the trained model; it can act, sample or predict, and be evaluated.

        Args:
            which: "last", "best", or the step of a checkpoint.
            device: where to put it.

        Raises:
            CheckpointError: if there is no such checkpoint, or it is damaged.
        """
        return self._load(which, device)

    def _load(self, which: str | int, device: str, *, same_data: bool = False) -> Algorithm:
        """Load; data that have changed since are an error if it has to be the same, else a warning."""
        planned = planning.reopen(self.folder, {"device": device})
        if (changed := experiment.changed_data(planned, self.folder)) is not None:
            if same_data:
                raise UsageError(changed, "Bring them back as they were: what was learned from may be tested on now.")
            _log.warning("%s", changed)
        path, manifest = self._checkpoint(which)
        experiment.check_note(path, manifest, self.folder)
        with preserved_globals():
            algorithm, _ = experiment.build(planned)
        try:
            algorithm.load_weights(checkpoint.load_weights(path, manifest))
        except ValueError as error:
            raise CheckpointError(f"the checkpoint {path} does not fit this version of the method: {error}") from error
        algorithm.count = int(manifest["step"])
        for module in states.modules(algorithm).values():
            module.eval()  # without dropout: it will act, sample or predict
        return algorithm

    def evaluate(
        self,
        which: str | int = "last",
        *,
        on: str | None = None,
        task_options: Mapping[str, Any] | None = None,
        episodes: int | None = None,
        seed: int = 0,
        deterministic: bool = True,
        device: str = "auto",
    ) -> dict[str, float]:
        """Measure the trained model anew; agents on episodes that training and its evaluations never saw.

        Args:
            which: "last", "best", or the step of a checkpoint.
            on: another dataset, whose test part is predicted (models of data only).
            task_options: options of that dataset, such as {"samples": 500}.
            episodes: how many, 100 if not given (agents only).
            seed: of these episodes.
            deterministic: take the best action rather than a sample (agents only).
            device: where to compute.

        Raises:
            CheckpointError: if there is no such checkpoint, or it is damaged.
            UsageError: if the other dataset does not fit the model.
        """
        if task_options and on is None:
            raise UsageError("options of a dataset need another dataset to measure on", "Name it by --on.")
        algorithm = self._load(which, device, same_data=on is None)
        if isinstance(algorithm, Agent):
            if on is not None:
                raise UsageError(f"{self.path} is the run of an agent, which is not measured on data")
            seeds = Streams(seed).sequence("evaluation anew")
            metrics = algorithm.evaluate(episodes or 100, deterministic=deterministic, seeds=seeds)
        elif episodes is not None:
            raise UsageError(f"--episodes {episodes}: {self.info['method']} is no agent; its test part is measured")
        elif on is not None:
            metrics = self._evaluate_on(algorithm, on, task_options or {})
        else:
            metrics = algorithm.evaluate()
        self._captions = dict(algorithm.captions)
        return {"step": float(algorithm.count), **{name: float(value) for name, value in metrics.items()}}

    def record(
        self,
        which: str | int = "last",
        *,
        output: str | os.PathLike[str] | None = None,
        episodes: int = 1,
        seed: int = 0,
        deterministic: bool = True,
        fps: float | None = None,
        max_steps: int = recording.MAX_STEPS,
        device: str = "auto",
    ) -> Recording:
        """Have the trained agent play, and write a film of it with the return on screen.

        Args:
            which: "last", "best", or the step of a checkpoint.
            output: the file: .mp4, .gif, or .txt for an environment that can be rendered as text; by default
                media/episode-<step>.mp4 of the run, or .gif where there is no encoder.
            episodes: how many.
            seed: of these episodes.
            deterministic: take the best action rather than a sample.
            fps: frames per second; those of the environment by default.
            max_steps: where an episode is cut off.
            device: where to compute.

        Raises:
            UsageError: if it is no run of an agent, or its environment cannot be rendered.
            PluginError: if a package is missing, for rendering or for the file.
            CheckpointError: if there is no such checkpoint, or it is damaged.
            RunFailed: if the file cannot be written, or the environment raises.
        """
        if output is not None:
            films.check(Path(output))
        agent = self.load(which, device=device)
        if not isinstance(agent, Agent):
            raise UsageError(f"{self.path} is a run of {self.info['method']}, which is no agent and plays no episodes")
        recording.mode_for(agent.task)
        path = Path(output) if output is not None else None
        if path is None:
            suffix, instead = films.best_suffix()
            if instead is not None:
                _log.warning("a GIF is written: %s", instead)
            parts = ["episode" if episodes == 1 else f"{episodes}-episodes", f"seed{seed}" if seed else ""]
            parts += ["" if deterministic else "stochastic"]
            path = self.folder.media_file("-".join(filter(None, parts)), agent.count, suffix)
        seeds = Streams(seed).sequence("recording")
        return recording.record(
            agent, path, episodes=episodes, seeds=seeds, deterministic=deterministic, fps=fps, max_steps=max_steps
        )

    def _evaluate_on(self, algorithm: Algorithm, on: str, options: Mapping[str, Any]) -> Metrics:
        """Return the metrics on the test part of another dataset."""
        if not isinstance(algorithm, SupervisedModel):
            raise UsageError(f"{self.info['method']} predicts no targets of a dataset, and cannot be measured on {on}")
        known = DatasetTask.config_class(on).model_fields
        for name in options:
            if name not in known:
                raise UsageError(f"{on} has no option {flag(name)}.", did_you_mean(name, known))
            if name == "scale":
                raise UsageError(f"--scale is the model's own, and does not change with {on}")
        config = DatasetTask.config_class(on).parse(options)
        with preserved_globals():
            task = DatasetTask.open(on, config, seed=int(self.info["seed"]))
        if (reason := unlike(algorithm.task.data, task.data)) is not None:
            raise UsageError(f"{self.path} cannot be measured on {on}: {reason}")
        return algorithm.evaluate(task.data.parts["test"])

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
    if (name := open_option(planned)) is not None:
        folds = planned.task.config.folds
        raise UsageError(
            f"{folds} folds are {folds} runs", f"Choose one, for example by {name}=0, and call it for each."
        )
    with preserved_globals(), _preserved_threads():
        folder, status = experiment.start(planned, _watch(progress))
    if status.state == "finished":
        check_required(planned.options.require, folder.info.get("metrics") or {}, str(folder.path))
    return Run(folder)


def resume(run: str | os.PathLike[str], *, progress: bool = True, extend: float | None = None, **options: Any) -> Run:
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
