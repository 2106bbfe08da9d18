"""Callbacks: what happens around training without being part of a method.

A callback's `every` says how often its `on_due` is called; the built-in ones evaluate, write the line of
metrics, stop on a condition and save. A plugin of the group `rllab.callbacks` is made without arguments.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rllab import checkpoint
from rllab.algorithm import Metrics, Objective
from rllab.conditions import Condition
from rllab.device import memory_metrics
from rllab.errors import one_line
from rllab.intervals import Interval
from rllab.seeding import global_state, preserved_globals
from rllab.state import State, collect, restore_into
from rllab.stopping import StopRequested

_log = logging.getLogger("rllab")

if TYPE_CHECKING:
    from rllab.runfolder import RunFolder
    from rllab.trainer import Status, Trainer

_CURVES = "curves"
_SHORT = 5.0
"""Seconds of training below which learning curves alone are not worth the time that drawing takes."""


class Callback:
    """Base of all callbacks; every hook may be left out. Its attributes are part of a checkpoint.

    Attributes:
        trainer: the trainer, from `on_start` on.
    """

    every: Interval | None = None
    """How often `on_due` is called; None: never."""
    transient: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are no part of the state."""
    trainer: Trainer

    @property
    def name(self) -> str:
        """Return the name under which its state is kept."""
        return type(self).__name__

    def on_start(self, trainer: Trainer) -> None:
        """Called before the first step, also of a resumed run."""
        self.trainer = trainer

    def on_step(self, metrics: Metrics) -> None:
        """Called after every step; keep it short."""

    def on_due(self) -> None:
        """Called between two steps, `every` so often, and at the end of the budget."""

    def on_evaluate(self, metrics: Metrics) -> None:
        """Called with the metrics of each evaluation."""

    def on_log(self, line: dict[str, float]) -> None:
        """Called with each line of metrics that was written."""

    def on_end(self, status: Status) -> None:
        """Called at the end, always, also after an error."""

    def state_dict(self) -> State:
        """Return everything on the callback that is not transient."""
        return collect(self, self.transient | {"trainer", "every"})

    def load_state_dict(self, state: State) -> None:
        """Go back to a state."""
        restore_into(self, state, self.transient | {"trainer", "every"})


class Evaluate(Callback):
    """Measures the algorithm, with the clock of training stopped; the test part of a dataset only in the end."""

    def __init__(self, every: Interval) -> None:
        self.every = every

    def on_due(self) -> None:
        """Evaluate; a stop request leaves the evaluation due."""
        whole = self._measure()
        if self.trainer.ending and not whole:  # what was just measured ended the run
            self._measure()

    def _measure(self) -> bool:
        """Measure and tell; return whether everything was measured."""
        algorithm = self.trainer.algorithm
        with self.trainer.clock_paused():
            metrics = None if self.trainer.ending else algorithm.validate()
            whole = metrics is None
            metrics = algorithm.evaluate() if metrics is None else metrics
        if metrics:
            self.trainer.evaluated(metrics)
        return whole


class EarlyStopping(Callback):
    """Ends the run as finished when the metric that picks the best checkpoint no longer gets better.

    Args:
        objective: that metric.
        patience: evaluations in a row that may be no better than the best.
    """

    transient = frozenset({"objective", "patience"})

    def __init__(self, objective: Objective, patience: int) -> None:
        self.objective = objective
        self.patience = patience
        self.best: float | None = None
        self.waited = 0

    def on_evaluate(self, metrics: Metrics) -> None:
        """Compare with the best so far."""
        if self.trainer.ending or (measured := metrics.get(self.objective.metric)) is None:
            return
        value, best = float(measured), self.best
        if best is None or (value > best if self.objective.maximize else value < best):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            name = self.objective.metric
            self.trainer.finish(f"--patience {self.patience}: {name} got no better than {best:.4g}")


class StopWhen(Callback):
    """Ends the run as finished when all conditions hold for the latest metrics.

    Args:
        conditions: what has to hold.
        every: how often the metrics of training are looked at.
    """

    transient = frozenset({"conditions"})

    def __init__(self, conditions: Sequence[Condition], every: Interval) -> None:
        self.conditions = conditions
        self.every = every

    def on_due(self) -> None:
        """Look at the metrics of training; it comes before the evaluation, so that a last one follows."""
        logger = self.trainer.logger
        latest = logger.latest | logger.averages()  # as the next line will have them
        if all(condition.holds(latest) for condition in self.conditions):
            self.trainer.finish(" and ".join(map(str, self.conditions)))

    def on_end(self, status: Status) -> None:
        """Say so if a metric never came: it may be mistyped."""
        measured = self.trainer.logger.latest
        for condition in self.conditions:
            if measured and condition.metric not in measured:
                _log.warning("--stop-when %s: %s", condition, condition.measured(measured))

    def on_evaluate(self, metrics: Metrics) -> None:
        """Look at the metrics of an evaluation, too."""
        self.on_due()


class WriteLine(Callback):
    """Has the logger write a line of metrics, at intervals and with every evaluation."""

    def __init__(self, every: Interval) -> None:
        self.every = every

    def on_evaluate(self, metrics: Metrics) -> None:
        """Write the metrics of an evaluation at once, in one line with those of training."""
        self.trainer.make_due(self)

    def on_due(self) -> None:
        """Write a line."""
        trainer = self.trainer
        trainer.logger.record(trainer.count, dict(memory_metrics(trainer.algorithm.device)))
        line = trainer.logger.write(trainer.count, trainer.seconds, last=trainer.ending)
        if line is not None:
            trainer.logged(line)


class Pictures(Callback):
    """Draws what the algorithm has to show; at the end the learning curves too, and films of what was drawn often.

    None of it is training time, and a picture that cannot be drawn is a warning.

    Args:
        every: how often.
        folder: the run folder.
        asked: whether the user asked for pictures; otherwise a short run is spared lone learning curves.
    """

    transient = frozenset({"folder", "asked", "_warned"})

    def __init__(self, every: Interval, folder: RunFolder, *, asked: bool) -> None:
        self.every = every
        self.folder = folder
        self.asked = asked
        self._warned: set[str] = set()

    def on_due(self) -> None:
        """Draw."""
        trainer = self.trainer
        with trainer.clock_paused(), preserved_globals():
            found: dict[str, Any] = {}
            with self._careful("pictures"):
                found.update(trainer.algorithm.pictures(final=trainer.ending))
            if trainer.ending and (found or self.asked or trainer.seconds >= _SHORT):
                with self._careful(_CURVES):
                    found |= self._curves()
            for name, item in found.items():
                with self._careful(name):
                    trainer.logger.media(trainer.count, name, item)
            if trainer.ending:
                self._films()

    def _curves(self) -> dict[str, Any]:
        """Return the learning curves, if there are any."""
        from rllab.parts import drawing, plots

        info, algorithm = self.folder.info, self.trainer.algorithm
        text = self.folder.metrics_file.read_text(encoding="utf-8")
        drawn = plots.curves(
            [json.loads(line) for line in text.splitlines()],
            unit=algorithm.unit,
            objective=algorithm.objective(algorithm.task).metric,
            epoch=algorithm.epoch,
            title=f"{info['method']} on {info['task']}, seed {info['seed']}",
        )
        return {} if drawn is None else {_CURVES: drawing.render(drawn)}

    def _films(self) -> None:
        """Make an animated GIF of each picture that was drawn several times, by this process or before."""
        frames: dict[str, list[Path]] = {}
        for name, _, path in self.folder.media_files():
            if path.suffix == ".png" and name != _CURVES:
                frames.setdefault(name, []).append(path)
        for name, paths in frames.items():
            if len(paths) > 1:
                from rllab.parts import drawing

                with self._careful(f"{name}.gif"):
                    self.folder.write(self.folder.media / f"{name}.gif", drawing.film(paths))

    @contextmanager
    def _careful(self, name: str) -> Iterator[None]:
        """Turn an error in the block into a warning, of which each name gets one; a request to stop goes on."""
        try:
            yield
        except StopRequested:
            raise
        except Exception as error:  # noqa: BLE001 - no picture is worth the end of a run
            if name not in self._warned:
                self._warned.add(name)
                _log.warning("%s cannot be drawn: %s: %s", name, type(error).__name__, one_line(str(error)))


class Checkpoint(Callback):
    """Saves everything at intervals and at a stop, and the weights of the best evaluation.

    Args:
        every: how often.
        folder: the run folder.
        objective: which evaluation is the best; of equal ones the latest.
        keep: how many full checkpoints stay.
        note: what goes into each manifest, to recognise a checkpoint of another run.
        share: saving is put off while it has taken more than this share of the time; 1: never.
    """

    transient = frozenset({"folder", "objective", "keep", "note", "share", "last", "_saving", "_started"})

    def __init__(
        self,
        every: Interval,
        folder: RunFolder,
        objective: Objective | None,
        *,
        keep: int,
        note: dict[str, Any],
        share: float = 0.05,
    ) -> None:
        self.every = every
        self.folder = folder
        self.objective = objective
        self.keep = keep
        self.note = note
        self.share = share
        self.best: float | None = None
        self.best_step: int | None = None
        self.last: Path | None = None
        self._saving = 0.0
        self._started = time.perf_counter()

    def on_evaluate(self, metrics: Metrics) -> None:
        """Keep the weights if there were none better."""
        if self.objective is None:
            return
        value = metrics.get(self.objective.metric)
        if value is None or not self.objective.at_least_as_good(float(value), self.best):
            return
        start = time.perf_counter()
        with self.trainer.clock_paused():
            checkpoint.save(
                self.folder.checkpoints / checkpoint.BEST,
                weights=self.trainer.algorithm.weights(),
                state=None,
                note={**self.note, "step": self.trainer.count, self.objective.metric: float(value)},
            )
        self.best, self.best_step = float(value), self.trainer.count
        self._saving += time.perf_counter() - start

    def on_due(self) -> None:
        """Save, unless saving has taken too much of the time."""
        if self.trainer.ending or self._saving <= self.share * (time.perf_counter() - self._started):
            self.save()

    def on_end(self, status: Status) -> None:
        """Save when the run was stopped or is finished; after an error what is there may be broken."""
        if status.state != "failed" and self.last != self._path():
            self.save()

    def save(self) -> None:
        """Write a full checkpoint of this moment."""
        start = time.perf_counter()
        with self.trainer.clock_paused():
            state = self.trainer.algorithm.state_dict()
            checkpoint.check_finite(state["weights"])
            self.trainer.logger.flush()
            trainer_state = self.trainer.state_dict()
            checkpoint.save(
                self._path(),
                weights=state["weights"],
                state={"algorithm": state["state"], "trainer": trainer_state, "globals": global_state()},
                note={**self.note, "step": self.trainer.count},
            )
            checkpoint.prune(self.folder.checkpoints, self.keep, self.trainer.count)
        self.last = self._path()
        self._saving += time.perf_counter() - start

    def _path(self) -> Path:
        return self.folder.checkpoints / checkpoint.name_of(self.trainer.count)
