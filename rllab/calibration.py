"""What `--device auto` and `--env-backend auto` assume, measured: short trainings with one thing changed at a time.

In: a method, a target and options. Out: how fast each device, number of threads and backend trains it here, and
whether what `auto` picks is as fast as the fastest. No run folder is made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from rllab import backends, device, experiment
from rllab.agent import Agent
from rllab.algorithm import Algorithm
from rllab.device import Choice, Inventory
from rllab.errors import RllabError, one_line
from rllab.planning import Method, load_method, plan_method
from rllab.seeding import preserved_globals

ROUNDS = 4
"""Each setting is measured so often, by turns with the others, as the machine may have something else to do."""

TOLERANCE = 1.15
"""A setting is called faster if it is so many times as fast at its best, and faster in each round."""

_log = logging.getLogger("rllab")


@dataclass(frozen=True)
class Setting:
    """How something is trained: on which device, with how many threads, and who steps environments (agents only)."""

    device: str
    threads: int
    backend: str | None

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return ", ".join(filter(None, [self.device, threads, self.backend]))


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        setting: what was measured.
        rate: units trained in a second in its best round, None if it could not be measured.
        ratio: that rate, divided by that of what `auto` picks.
        rates: that of each round.
        note: why there is no rate, or "auto".
    """

    setting: Setting
    rate: float | None
    ratio: float | None
    rates: list[float]
    note: str


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        unit: what a rate counts, in a second.
        num_envs: parallel environments, None where there are none.
        picked: what `auto` picks.
        reason: why it picks that device and so many threads.
        rows: a line for each setting; the first one is `picked`.
    """

    unit: str
    num_envs: int | None
    picked: Setting
    reason: str
    rows: list[Row]

    @property
    def fastest(self) -> Row:
        """Return the fastest of what is clearly faster than what `auto` picks, or that."""
        base = self.rows[0]
        faster = [row for row in self.rows[1:] if _is_faster(row, base)]
        return max(faster, key=lambda row: row.rate or 0.0, default=base)

    @property
    def holds(self) -> bool:
        """Whether nothing is clearly faster than what `auto` picks."""
        return self.fastest is self.rows[0]

    @property
    def verdict(self) -> str:
        """Return in words whether the assumptions hold, and what to say if they do not."""
        if self.rows[0].rate is None:
            return f"What auto picks ({self.picked}) could not be measured: {self.rows[0].note}."
        if self.holds:
            return f"The assumptions hold: nothing is clearly faster than what auto picks ({self.picked})."
        best, picked = self.fastest.setting, self.picked
        options = [f"--device {best.device}"] if best.device != picked.device else []
        options += [f"--env-backend {best.backend}"] if best.backend != picked.backend else []
        options += [f"OMP_NUM_THREADS={best.threads}"] if best.threads < picked.threads else []
        say = f"; say {' '.join(options)}" if options else ""
        return f"The assumptions do not hold: {best} is {self.fastest.ratio:.2f} times as fast as {picked}{say}."


def _is_faster(one: Row, other: Row) -> bool:
    wins = all(mine > theirs for mine, theirs in zip(one.rates, other.rates, strict=False))
    return one.ratio is not None and one.ratio >= TOLERANCE and wins


def calibrate(
    method: str, target: str, values: Mapping[str, Any] | None = None, *, seconds: float = 2.0
) -> Calibration:
    """Measure how fast a method trains on a target, in each way that this machine has.

    Args:
        method: its name.
        target: an environment or dataset.
        values: raw values of options, such as `num_envs`.
        seconds: how long each setting is measured, besides its preparation and a first update.

    Raises:
        RllabError: if the method cannot be trained on the target at all.
    """
    loaded = load_method(method)
    given = dict(values or {})
    with preserved_globals(), _restored_threads(), _quiet():
        planned = plan_method(loaded, target, given)
        work = planned.algorithm_class.work(planned.config, planned.task)
        choice = device.select("auto", work)
        num_envs = getattr(planned.config, "num_envs", None) if issubclass(loaded.algorithm, Agent) else None
        backend = None
        if num_envs is not None:
            partly = getattr(loaded.algorithm, "steps_partly", False)
            backend = backends.resolve(planned.task, num_envs, partly=partly)  # type: ignore[arg-type]
        picked = Setting(choice.device, choice.threads, backend)
        trials = [_Trial(loaded, target, given, setting) for setting in settings(picked, Inventory.probe(), num_envs)]
        try:
            for trial in trials:
                trial.prepare(seconds)
            for _ in range(ROUNDS):
                for trial in trials:
                    trial.measure(seconds / ROUNDS)
        finally:
            for trial in trials:
                trial.close()
    best = [max(trial.rates, default=None) for trial in trials]
    rows = [
        Row(trial.setting, rate, rate / best[0] if rate and best[0] else None, trial.rates, trial.note)
        for trial, rate in zip(trials, best, strict=True)
    ]
    rows[0] = replace(rows[0], note=rows[0].note or "auto")
    return Calibration(f"{loaded.algorithm.unit}/s", num_envs, picked, choice.reason, rows)


def settings(picked: Setting, inventory: Inventory, num_envs: int | None) -> list[Setting]:
    """Return what is worth measuring: what `auto` picks, and what differs from it in one thing."""
    found = [picked]
    places = ["cpu", *(f"cuda:{gpu.index}" for gpu in inventory.cuda[:1]), *(["mps"] if inventory.mps else [])]
    found += [replace(picked, device=place, threads=1 if place != "cpu" else picked.threads) for place in places]
    if picked.device == "cpu":
        found += [replace(picked, threads=count) for count in (1, inventory.cores)]
    if num_envs is not None and num_envs > 1:
        found += [replace(picked, backend=name) for name in ("loop", "native", "workers")]
    return list(dict.fromkeys(found))


class _Trial:
    """A training that is measured by turns with others."""

    def __init__(self, method: Method, target: str, values: Mapping[str, Any], setting: Setting) -> None:
        self.setting = setting
        self.rates: list[float] = []
        self.note = ""
        self._is_slow = False
        self._algorithm: Any = None
        self._choice: Any = None
        self._every_step_learns = True
        self._asked = method, target, values

    def prepare(self, seconds: float) -> None:
        """Build the algorithm, and train it until it has learnt once, or for so many seconds."""

        def start() -> None:
            self._begin()
            deadline = time.perf_counter() + seconds
            while time.perf_counter() < deadline and self._goes_on():
                if _has_learnt(self._algorithm.step()):
                    self._every_step_learns = False  # others may only gather what this one learns from
                    break

        self._attempt(start)

    def measure(self, seconds: float) -> None:
        """Train for so many seconds from one update to another; a training that ends begins again."""

        def train() -> None:
            place = device.apply(self._choice)
            trained, spent, learnt = 0, 0.0, False
            deadline = time.perf_counter() + 4 * seconds
            while time.perf_counter() < deadline and (spent < seconds or not learnt):
                if not self._goes_on():
                    self.close()
                    self._begin()
                algorithm = self._algorithm
                before, start = algorithm.count, time.perf_counter()
                while self._goes_on():
                    learnt = _has_learnt(algorithm.step()) or self._every_step_learns
                    passed = spent + time.perf_counter() - start
                    if (passed >= seconds and learnt) or passed >= 4 * seconds:
                        break
                _finish(place)
                trained += algorithm.count - before
                spent += time.perf_counter() - start
            self.rates.append(trained / spent)
            self._is_slow = spent > 4 * seconds  # one measurement is enough to know it

        if not self._is_slow:
            self._attempt(train)

    def close(self) -> None:
        """Free what the training holds."""
        algorithm, self._algorithm = self._algorithm, None
        if algorithm is not None:
            algorithm.close()

    def _built(self, method: Method, target: str, values: Mapping[str, Any]) -> tuple[Algorithm, Choice]:
        given = {**values, "device": self.setting.device}
        if self.setting.backend is not None:
            given["env_backend"] = self.setting.backend
        planned = plan_method(method, target, given)
        starts, batch = (getattr(planned.config, name, None) for name in ("learning_starts", "batch_size"))
        if starts and batch and starts > batch:  # it is learning that is to be measured
            planned = plan_method(method, target, {**given, "learning_starts": batch})
        return experiment.build(planned, threads=self.setting.threads)

    def _begin(self) -> None:
        self._algorithm, self._choice = self._built(*self._asked)
        self._algorithm.setup()

    def _goes_on(self) -> bool:
        return bool(self._algorithm.count < self._algorithm.budget and not self._algorithm.converged)

    def _attempt(self, action: Any) -> None:
        """Do something unless something has failed before; what fails becomes a note."""
        if self.note:
            return
        try:
            action()
        except RllabError as error:
            self.note = one_line(error)
            self.close()
        except Exception as error:  # noqa: BLE001 - out of memory, or whatever a plugin raises: the others go on
            self.note = f"{type(error).__name__}: {one_line(error)}"
            self.close()


def _has_learnt(metrics: Mapping[str, Any]) -> bool:
    return any("loss" in name for name in metrics)


def _finish(place: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    elif place.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out warnings that a run would give: each setting would repeat them."""
    before = _log.level
    _log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _log.setLevel(before)
