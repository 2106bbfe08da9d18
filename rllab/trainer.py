"""The trainer drives `step()`; it owns the budget, the clock, and when to stop.

In: a set-up algorithm, a logger, callbacks. Out: a `Status`. Between two steps there is one comparison; only
when something is due does the trainer look at what. At such a boundary the order is that of the callbacks:
evaluation, the line of metrics, whatever plugins do, the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from rllab import stopping
from rllab.algorithm import Algorithm, Metrics
from rllab.callbacks import Callback
from rllab.errors import UsageError
from rllab.intervals import Interval
from rllab.logger import Logger
from rllab.stopping import StopRequested


@dataclass(frozen=True)
class Status:
    """How a run ended: "finished", "stopped" (it can be resumed) or "failed", and why."""

    state: Literal["finished", "stopped", "failed"]
    reason: str


@dataclass
class _Due:
    """When a callback's `on_due` comes next: at a count, or after so many seconds of training."""

    interval: str
    units: int | None
    seconds: float | None
    next_count: float = math.inf
    next_time: float = math.inf
    done_at: int = -1

    def is_now(self, count: int, seconds: float, *, end: bool) -> bool:
        off = self.units is None and self.seconds is None
        owed_at_end = end and not off and self.done_at != count
        return owed_at_end or count >= self.next_count or seconds >= self.next_time

    def advance(self, count: int, seconds: float) -> None:
        self.next_count = math.inf if self.units is None else (count // self.units + 1) * self.units
        self.next_time = math.inf if self.seconds is None else seconds + self.seconds


class Trainer:
    """Calls `algorithm.step()` until the budget is used up, or something ends the run earlier.

    Args:
        algorithm: the method, after `setup()`.
        logger: where metrics go.
        callbacks: called in this order.
        stop_after: stop, resumable, after so many units in this process.
        max_time: stop, resumable, after so many seconds in this process.

    Attributes:
        seconds: seconds spent training, over all resumes, without evaluating and saving.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        logger: Logger,
        callbacks: Sequence[Callback],
        *,
        stop_after: int | None = None,
        max_time: float | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.logger = logger
        self.callbacks = list(callbacks)
        self._stop_after = stop_after
        self._max_time = max_time
        self._status: Status | None = None
        self._trained = 0.0
        self._resumed_at: float | None = None
        self._next_count = 0.0
        self._next_time = math.inf
        self._keys = _keys(self.callbacks)
        self._due = {c: self._first_due(c.every) for c in self.callbacks if c.every is not None}

    # --- what callbacks use

    @property
    def count(self) -> int:
        """Units trained so far."""
        return self.algorithm.count

    @property
    def seconds(self) -> float:
        """Seconds spent training, over all resumes, without evaluating and saving."""
        running = 0.0 if self._resumed_at is None else time.perf_counter() - self._resumed_at
        return self._trained + running

    @property
    def ending(self) -> bool:
        """Whether this is the last boundary of the run."""
        return self._status is not None or self.count >= self.algorithm.budget

    @contextmanager
    def clock_paused(self) -> Iterator[None]:
        """Leave a block out of the training time."""
        running = self._resumed_at is not None
        self._pause()
        try:
            yield
        finally:
            self._resumed_at = time.perf_counter() if running else None

    def make_due(self, callback: Callback) -> None:
        """Have the `on_due` of a callback called at this boundary, if its turn has not passed yet."""
        self._due[callback].next_count = self.count

    def finish(self, reason: str) -> None:
        """End the run, successfully, at this boundary."""
        self._status = Status("finished", reason)
        self._next_count = 0

    def carry_on(self) -> None:
        """Take back a `finish`, for a run that was given a larger budget."""
        self._status = None

    def evaluated(self, metrics: Metrics) -> None:
        """Log the metrics of an evaluation and pass them on to all callbacks."""
        self.logger.record(self.count, metrics)
        for callback in self.callbacks:
            callback.on_evaluate(metrics)

    def logged(self, line: dict[str, float]) -> None:
        """Pass on a line of metrics that was written."""
        for callback in self.callbacks:
            callback.on_log(line)

    # --- the loop

    def run(self) -> Status:
        """Train; return how it ended.

        Raises:
            Exception: what `step`, `evaluate` or a callback raised, after every callback's `on_end`.
        """
        status = Status("failed", "an error")
        started: list[Callback] = []
        try:
            with stopping.on_signals(), stopping.waking(self._wake):
                try:
                    for callback in self.callbacks:
                        started.append(callback)
                        callback.on_start(self)
                    status = self._train()
                except BaseException as error:
                    status = Status("failed", f"{type(error).__name__}: {error}")
                    raise
                finally:
                    self._pause()
                    self._end(started, status)
        finally:
            self.algorithm.close()
        return status

    def _train(self) -> Status:
        algorithm, step, record, now = self.algorithm, self.algorithm.step, self.logger.record, time.perf_counter
        on_step = [c.on_step for c in self.callbacks if type(c).on_step is not Callback.on_step]
        start = self._resumed_at = time.perf_counter()
        stop_count = math.inf if self._stop_after is None else algorithm.count + self._stop_after
        stop_time = math.inf if self._max_time is None else start + self._max_time
        try:
            while True:
                self._boundary()  # at the start: what was still due when the run was stopped
                if self._status is not None:
                    return self._status
                if algorithm.count >= algorithm.budget:
                    return Status("finished", "the budget is used up")
                stopping.check()
                if algorithm.count >= stop_count:
                    return Status("stopped", f"--stop-after {self._stop_after}")
                if time.perf_counter() >= stop_time:
                    return Status("stopped", f"--max-time {self._max_time:g}s")
                self._next_count = min(self._next_count, stop_count, algorithm.budget)
                self._next_time = min(self._next_time, stop_time)
                if stopping.requested():  # it came after the check, and what it woke was just set anew
                    continue
                count = algorithm.count
                while count < self._next_count and now() < self._next_time and not algorithm.converged:
                    metrics = step()
                    count = algorithm.count
                    if metrics:
                        record(count, metrics)
                    for callback in on_step:
                        callback(metrics)
        except StopRequested as request:
            return Status("stopped", str(request))

    def _boundary(self) -> None:
        """Do what is due, in the order of the callbacks; at the end of the run everything is."""
        if self.algorithm.converged and self._status is None:
            self.finish(self.algorithm.converged)
        if stopping.requested() and not self.ending:
            return  # what is due stays due, and comes first when the run is resumed
        for callback, due in self._due.items():
            if due.is_now(self.count, self.seconds, end=self.ending):
                self._do(callback, due)
        self._next_count = min((due.next_count for due in self._due.values()), default=math.inf)
        wait = min((due.next_time for due in self._due.values()), default=math.inf) - self.seconds
        self._next_time = time.perf_counter() + wait
        if stopping.requested():
            self._next_count = 0

    def _do(self, callback: Callback, due: _Due) -> None:
        """Call `on_due`; what was interrupted by a request to stop stays due."""
        due.advance(self.count, self.seconds)
        try:
            callback.on_due()
        except StopRequested:
            due.next_count = self.count
            raise
        due.done_at = self.count

    def _end(self, started: list[Callback], status: Status) -> None:
        """Call every `on_end`; the first error in one is raised after all were called, unless there was one before."""
        errors: list[Exception] = []
        for callback in started:
            try:
                callback.on_end(status)
            except Exception as error:  # noqa: BLE001 - one callback must not keep the others from ending
                errors.append(error)
        if errors and status.state != "failed":
            raise errors[0]

    def _pause(self) -> None:
        self._trained = self.seconds
        self._resumed_at = None

    def _wake(self) -> None:
        self._next_count = 0

    def _first_due(self, interval: Interval) -> _Due:
        try:
            units = None if interval.never else interval.units(self.algorithm.budget, self.algorithm.epoch)
        except ValueError as error:
            raise UsageError(str(error)) from None
        due = _Due(str(interval), units, None if interval.never else interval.seconds)
        due.advance(self.algorithm.count, 0.0)
        return due

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Return the training time, what is due, and the state of the logger and the callbacks."""
        return {
            "seconds": self.seconds,
            "finishing": None if self._status is None else self._status.reason,
            "due": {self._keys[c]: [d.interval, d.next_count, d.next_time] for c, d in self._due.items()},
            "logger": self.logger.state_dict(),
            "callbacks": {self._keys[callback]: callback.state_dict() for callback in self.callbacks},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. An interval that was changed starts anew; what was due, stays due."""
        self._trained = state["seconds"]
        if state["finishing"] is not None:
            self.finish(state["finishing"])
        self.logger.load_state_dict(state["logger"])
        for callback, due in self._due.items():
            interval, next_count, next_time = state["due"].get(self._keys[callback], (None, math.inf, math.inf))
            due.advance(self.count, self._trained)
            if interval == due.interval or next_count <= self.count:
                due.next_count, due.next_time = next_count, next_time
        for callback in self.callbacks:
            if self._keys[callback] in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][self._keys[callback]])


def _keys(callbacks: Sequence[Callback]) -> dict[Callback, str]:
    """Return the name under which each callback's state is kept: its own, numbered where several have the same."""
    keys: dict[Callback, str] = {}
    for callback in callbacks:
        same = sum(other.name == callback.name for other in keys)
        keys[callback] = f"{callback.name}.{same + 1}" if same else callback.name
    return keys
