import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rllab import checkpoint, stopping
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.callbacks import Callback, Checkpoint, EarlyStopping, Evaluate, StopWhen, WriteLine
from rllab.conditions import Condition
from rllab.config import Config
from rllab.errors import UsageError
from rllab.intervals import Interval
from rllab.logger import JsonLinesWriter, Logger
from rllab.runfolder import RunFolder
from rllab.seeding import Streams
from rllab.trainer import Status, Trainer


class Counting(Algorithm):
    """Counts to its budget by `stride`, and writes down what is asked of it."""

    unit = "counts"
    transient = frozenset({"journal", "at_step", "at_evaluate"})

    def __init__(self, budget: int = 100, stride: int = 1, epoch: int | None = None) -> None:
        super().__init__(Config(), None, device=torch.device("cpu"), streams=Streams(0))
        self._budget, self._stride, self._epoch = budget, stride, epoch
        self.journal: list[str] = []
        self.at_step: Any = lambda count: None
        self.at_evaluate: Any = lambda count: None

    @classmethod
    def objective(cls, task: Any) -> Objective:
        return Objective("eval/score", maximize=True)

    @property
    def budget(self) -> int:
        return self._budget

    @property
    def epoch(self) -> int | None:
        return self._epoch

    def step(self) -> Metrics:
        self.count += self._stride
        self.at_step(self.count)
        return {"train/count": float(self.count)}

    def evaluate(self) -> Metrics:
        self.journal.append(f"evaluate {self.count}")
        self.at_evaluate(self.count)
        stopping.check()
        return {"eval/score": float(self.count)}

    def close(self) -> None:
        self.journal.append("close")


class Recorder(Callback):
    """Writes down every call in the journal of the algorithm."""

    transient = frozenset({"journal", "error_at"})

    def __init__(self, every: str | None = None, error_at: str = "") -> None:
        self.every = Interval.parse(every) if every else None
        self.error_at = error_at
        self.journal: list[str] = []

    def _note(self, text: str) -> None:
        self.journal.append(text)
        if self.error_at and text.startswith(self.error_at):
            raise LookupError(text)

    def on_start(self, trainer: Trainer) -> None:
        super().on_start(trainer)
        self.journal = trainer.algorithm.journal
        self._note("start")

    def on_due(self) -> None:
        self._note(f"due {self.trainer.count}")

    def on_evaluate(self, metrics: Metrics) -> None:
        self._note(f"evaluated {self.trainer.count}")

    def on_log(self, line: dict[str, float]) -> None:
        self._note(f"line {self.trainer.count}")

    def on_end(self, status: Status) -> None:
        self._note(f"end {status.state}")


class Saving(Checkpoint):
    """Writes down when it saves."""

    def save(self) -> None:
        super().save()
        self.trainer.algorithm.journal.append(f"save {self.trainer.count}")


LOGGERS: list[Logger] = []


@pytest.fixture(autouse=True)
def closed_files() -> Iterator[None]:
    """Close what the loggers of a test have opened."""
    yield
    while LOGGERS:
        LOGGERS.pop().close("finished")


def trainer_of(
    algorithm: Counting,
    folder: RunFolder | None = None,
    *added: Callback,
    evaluate: str = "0",
    line: str = "0",
    save: str | None = None,
    **options: Any,
) -> Trainer:
    saver = []
    if save is not None and folder is not None:
        objective = algorithm.objective(None)
        saver = [Saving(Interval.parse(save), folder, objective, keep=100, note={}, share=1.0)]
    logger = Logger({"jsonl": JsonLinesWriter()} if folder else {})
    LOGGERS.append(logger)
    stops = [callback for callback in added if isinstance(callback, StopWhen)]
    others = [callback for callback in added if callback not in stops]
    callbacks = [*stops, Evaluate(Interval.parse(evaluate)), WriteLine(Interval.parse(line)), *others, *saver]
    return Trainer(algorithm, logger, callbacks, **options)


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def resumed(trainer: Trainer, folder: RunFolder) -> Trainer:
    """Bring a trainer to the newest checkpoint."""
    path = folder.checkpoints / checkpoint.name_of(checkpoint.steps(folder.checkpoints)[0])
    state = checkpoint.load_state(path)
    trainer.algorithm.load_state_dict({"weights": {}, "state": state["algorithm"]})
    trainer.load_state_dict(state["trainer"])
    trainer.logger.open(folder, resumed_at=trainer.count)
    return trainer


# --- what happens at a boundary -----------------------------------------------------------------------------


def test_at_a_boundary_come_evaluation_then_the_line_then_plugins_then_the_checkpoint(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=20)
    trainer = trainer_of(algorithm, run_folder, Recorder("10"), evaluate="10", line="10", save="10")
    trainer.logger.open(run_folder)
    assert trainer.run() == Status("finished", "the budget is used up")
    assert algorithm.journal == [
        "start",
        *("evaluate 10", "evaluated 10", "line 10", "due 10", "save 10"),
        *("evaluate 20", "evaluated 20", "line 20", "due 20", "save 20"),
        "end finished",
        "close",
    ]


def test_metrics_and_evaluation_of_one_step_share_a_line(run_folder: RunFolder) -> None:
    trainer = trainer_of(Counting(budget=20), run_folder, evaluate="10", line="5")
    trainer.logger.open(run_folder)
    trainer.run()
    assert [(line["step"], line["train/count"], line.get("eval/score")) for line in lines(run_folder)] == [
        (5, 3.0, None),
        (10, 8.0, 10.0),
        (15, 13.0, None),
        (20, 18.0, 20.0),
    ]


@pytest.mark.parametrize("stride", [1, 3, 7, 100, 1000])
def test_every_recorded_step_is_in_one_line_and_steps_rise(run_folder: RunFolder, stride: int) -> None:
    trainer = trainer_of(Counting(budget=100, stride=stride), run_folder, line="10")
    trainer.logger.open(run_folder)
    trainer.run()
    steps = [line["step"] for line in lines(run_folder)]
    assert steps == sorted(set(steps))
    assert steps[-1] == trainer.count
    starts = [0, *steps]
    for start, line in zip(starts, lines(run_folder), strict=False):
        recorded = range(start + stride, line["step"] + 1, stride)
        assert line["train/count"] == sum(recorded) / len(recorded)


@pytest.mark.parametrize(
    ("every", "counts"),
    [
        ("30", [30, 60, 90, 100]),
        ("25%", [25, 50, 75, 100]),
        ("1epoch", [40, 80, 100]),
        ("1000", [100]),
        ("0", []),
        ("0%", []),
    ],
)
def test_an_interval_counts_units_shares_of_the_budget_or_epochs_and_the_end_is_always_due(
    every: str, counts: list[int]
) -> None:
    algorithm = Counting(budget=100, epoch=40)
    trainer_of(algorithm, None, Recorder(every)).run()
    assert [text for text in algorithm.journal if text.startswith("due")] == [f"due {count}" for count in counts]


def test_with_long_steps_what_is_due_comes_at_the_next_one_once() -> None:
    algorithm = Counting(budget=100, stride=40)
    trainer_of(algorithm, None, Recorder("30")).run()
    assert [text for text in algorithm.journal if text.startswith("due")] == ["due 40", "due 80", "due 120"]


def test_seconds_are_seconds_of_training_not_of_evaluation() -> None:
    algorithm = Counting(budget=100)
    algorithm.at_step = lambda count: time.sleep(0.002)
    slow = Recorder("0.05s")
    trainer = trainer_of(algorithm, None, slow)
    trainer.run()
    # 100 steps of 2 ms or more, so at least 4 intervals of 50 ms unless the machine sleeps through some; and the end
    due = [text for text in algorithm.journal if text.startswith("due")]
    assert 2 <= len(due) <= trainer.seconds / 0.05 + 1
    assert due[-1] == "due 100"


def test_epochs_need_a_method_that_has_them() -> None:
    with pytest.raises(UsageError, match=r"1epoch is in epochs, but this method has none"):
        trainer_of(Counting(), evaluate="1epoch")


def test_time_of_evaluation_is_left_out_of_the_speed(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=2)
    algorithm.at_step = lambda count: time.sleep(0.01)
    trainer = trainer_of(algorithm, run_folder, evaluate="1")
    trainer.logger.open(run_folder)
    algorithm.at_evaluate = lambda count: time.sleep(0.2)
    start = time.perf_counter()
    trainer.run()
    assert time.perf_counter() - start > 0.4
    assert trainer.seconds < time.perf_counter() - start - 0.39


def test_the_last_line_has_the_speed_of_the_whole_run(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=20)
    algorithm.at_step = lambda count: time.sleep(0.02 if count <= 10 else 0.001)
    trainer = trainer_of(algorithm, run_folder, line="10")
    trainer.logger.open(run_folder)
    trainer.run()
    first, last = lines(run_folder)
    assert first["time/steps_per_second"] == pytest.approx(10 / first["time"], rel=0.01)
    assert last["time/steps_per_second"] == pytest.approx(20 / last["time"], rel=0.01)


# --- stopping -----------------------------------------------------------------------------------------------


def test_stop_after_counts_in_this_process(run_folder: RunFolder) -> None:
    ends = []
    for round_ in range(3):
        trainer = trainer_of(Counting(budget=100), run_folder, line="10", save="0", stop_after=30)
        if round_:
            resumed(trainer, run_folder)
        else:
            trainer.logger.open(run_folder)
        assert trainer.run() == Status("stopped", "--stop-after 30")
        ends.append(trainer.count)
    assert ends == [30, 60, 90]


def test_stop_after_more_than_is_left_finishes() -> None:
    assert trainer_of(Counting(budget=20), stop_after=20).run().state == "finished"


def test_a_stop_that_can_be_resumed_evaluates_nothing_more() -> None:
    algorithm = Counting(budget=100)
    trainer_of(algorithm, None, evaluate="50", stop_after=70).run()
    assert algorithm.journal == ["evaluate 50", "close"]


def test_max_time_stops_between_two_steps() -> None:
    algorithm = Counting(budget=10**9)
    start = time.perf_counter()
    assert trainer_of(algorithm, max_time=0.05).run() == Status("stopped", "--max-time 0.05s")
    assert 0.05 <= time.perf_counter() - start < 2
    assert algorithm.count > 0


def test_stop_when_ends_the_run_as_finished_with_the_evaluation_that_got_there(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=100)
    stop = StopWhen([Condition.parse("eval/score>=20"), Condition.parse("train/count>0")], Interval.parse("10"))
    trainer = trainer_of(algorithm, run_folder, stop, Recorder("1000"), evaluate="10", line="10", save="0")
    trainer.logger.open(run_folder)
    assert trainer.run() == Status("finished", "eval/score>=20 and train/count>0")
    assert trainer.count == 20
    assert [text for text in algorithm.journal if "evaluate " in text] == ["evaluate 10", "evaluate 20"]
    assert "due 20" in algorithm.journal  # all that has an interval comes at the end
    assert checkpoint.steps(run_folder.checkpoints) == [20]
    assert lines(run_folder)[-1]["eval/score"] == 20


def test_stop_when_on_a_metric_of_training_still_evaluates_at_the_end(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=100)
    stop = StopWhen([Condition.parse("train/count>=15")], Interval.parse("10"))
    trainer = trainer_of(algorithm, run_folder, stop, evaluate="50", line="10", save="0")
    trainer.logger.open(run_folder)
    assert trainer.run().state == "finished"
    # the line at 20 has the average of 11 to 20, and the evaluation of the end
    assert [line["step"] for line in lines(run_folder)] == [10, 20]
    assert lines(run_folder)[-1]["eval/score"] == 20
    assert checkpoint.steps(run_folder.checkpoints) == [20]


def test_a_callback_may_finish_the_run_at_any_step() -> None:
    class Enough(Callback):
        def on_step(self, metrics: Metrics) -> None:
            if self.trainer.count == 7:
                self.trainer.finish("enough")

    algorithm = Counting(budget=100)
    assert trainer_of(algorithm, None, Enough(), evaluate="50").run() == Status("finished", "enough")
    assert algorithm.journal == ["evaluate 7", "close"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_step_boundary_and_saves(run_folder: RunFolder, number: signal.Signals) -> None:
    algorithm = Counting(budget=100)
    algorithm.at_step = lambda count: os.kill(os.getpid(), number) if count == 33 else None
    trainer = trainer_of(algorithm, run_folder, line="10", save="0")
    trainer.logger.open(run_folder)
    handler = signal.getsignal(number)
    assert trainer.run() == Status("stopped", number.name)
    assert checkpoint.steps(run_folder.checkpoints) == [33]
    assert signal.getsignal(number) is handler


def test_a_second_interrupt_does_not_wait() -> None:
    algorithm = Counting(budget=100)

    def twice(count: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    algorithm.at_step = twice
    with pytest.raises(KeyboardInterrupt):
        trainer_of(algorithm).run()
    assert algorithm.journal == ["close"]


# --- resuming -----------------------------------------------------------------------------------------------


def untimed(folder: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not k.startswith("time")} for line in lines(folder)]


def straight_lines(folder: Path, **options: Any) -> list[dict[str, Any]]:
    run = RunFolder.create(folder, "straight", {})
    trainer = trainer_of(Counting(budget=100), run, **options)
    trainer.logger.open(run)
    trainer.run()
    return untimed(run)


@pytest.mark.parametrize("stop", [1, 9, 10, 11, 25, 30, 99])
def test_a_run_that_was_stopped_writes_the_same_lines(run_folder: RunFolder, tmp_path: Path, stop: int) -> None:
    options: dict[str, Any] = {"evaluate": "25%", "line": "10", "save": "0"}
    first = trainer_of(Counting(budget=100), run_folder, stop_after=stop, **options)
    first.logger.open(run_folder)
    first.run()
    assert resumed(trainer_of(Counting(budget=100), run_folder, **options), run_folder).run().state == "finished"
    assert untimed(run_folder) == straight_lines(tmp_path, **options)


@pytest.mark.parametrize("at", [50, 100])
def test_an_evaluation_that_was_interrupted_stays_due_and_comes_first(
    run_folder: RunFolder, tmp_path: Path, at: int
) -> None:
    options: dict[str, Any] = {"evaluate": "50", "line": "10", "save": "0"}
    algorithm = Counting(budget=100)
    algorithm.at_evaluate = lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == at else None
    first = trainer_of(algorithm, run_folder, **options)
    first.logger.open(run_folder)
    assert first.run() == Status("stopped", "SIGTERM")
    assert (first.count, lines(run_folder)[-1]["step"]) == (at, at - 10)

    again = Counting(budget=100)
    assert resumed(trainer_of(again, run_folder, **options), run_folder).run().state == "finished"
    assert again.journal[0] == f"evaluate {at}"
    assert untimed(run_folder) == straight_lines(tmp_path, **options)


def test_a_signal_that_comes_with_the_step_before_a_boundary_leaves_all_of_it_due(
    run_folder: RunFolder, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"evaluate": "50", "line": "10", "save": "0"}
    algorithm = Counting(budget=100)
    algorithm.at_step = lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == 50 else None
    first = trainer_of(algorithm, run_folder, **options)
    first.logger.open(run_folder)
    assert first.run().state == "stopped"
    assert algorithm.journal == ["save 50", "close"]
    resumed(trainer_of(Counting(budget=100), run_folder, **options), run_folder).run()
    assert untimed(run_folder) == straight_lines(tmp_path, **options)


def test_a_new_interval_starts_anew_and_an_old_one_goes_on(run_folder: RunFolder) -> None:
    first = trainer_of(Counting(budget=100), run_folder, line="40", save="0", stop_after=50)
    first.logger.open(run_folder)
    first.run()
    second = trainer_of(Counting(budget=100), run_folder, line="15", save="0")
    resumed(second, run_folder).run()
    assert [line["step"] for line in lines(run_folder)] == [40, 60, 75, 90, 100]


def test_the_clock_goes_on_over_a_resume(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=100)
    algorithm.at_step = lambda count: time.sleep(0.001)
    first = trainer_of(algorithm, run_folder, line="10", save="0", stop_after=50)
    first.logger.open(run_folder)
    first.run()
    second = resumed(trainer_of(Counting(budget=100), run_folder, line="10", save="0"), run_folder)
    assert second.seconds >= 0.05
    second.run()
    times = [line["time"] for line in lines(run_folder)]
    assert times == sorted(times)
    assert lines(run_folder)[-1]["time/steps_per_second"] == pytest.approx(100 / times[-1], rel=0.05)


# --- errors -------------------------------------------------------------------------------------------------


def failing(count: int) -> None:
    if count == 5:
        raise ZeroDivisionError("at five")


def test_on_end_and_close_are_called_after_an_error_in_step_and_nothing_is_saved(run_folder: RunFolder) -> None:
    algorithm = Counting()
    algorithm.at_step = failing
    trainer = trainer_of(algorithm, run_folder, Recorder(), save="0")
    trainer.logger.open(run_folder)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert algorithm.journal == ["start", "end failed", "close"]
    assert not run_folder.checkpoints.exists()


@pytest.mark.parametrize("error_at", ["start", "due 10", "evaluated", "line"])
def test_an_error_in_one_callback_ends_the_run_and_all_that_were_started(error_at: str) -> None:
    algorithm = Counting()
    trainer = trainer_of(algorithm, None, Recorder("10", error_at), Recorder("10"), evaluate="10", line="10")
    with pytest.raises(LookupError, match=error_at):
        trainer.run()
    assert algorithm.journal.count("end failed") == (1 if error_at == "start" else 2)
    assert algorithm.journal[-1] == "close"


def test_an_error_at_the_end_keeps_no_other_callback_from_ending() -> None:
    algorithm = Counting(budget=1)
    with pytest.raises(LookupError, match=r"end finished"):
        trainer_of(algorithm, None, Recorder(None, "end"), Recorder()).run()
    assert algorithm.journal == ["start", "start", "end finished", "end finished", "close"]


def test_an_error_at_the_end_does_not_hide_the_one_before_it() -> None:
    algorithm = Counting()
    algorithm.at_step = failing
    with pytest.raises(ZeroDivisionError, match=r"at five"):
        trainer_of(algorithm, None, Recorder(None, "end")).run()


# --- the best -----------------------------------------------------------------------------------------------


def best_steps(folder: RunFolder, scores: list[float], *, maximize: bool) -> list[int]:
    """Return the step of the best checkpoint after each evaluation."""
    saver = Checkpoint(Interval(0), folder, Objective("eval/score", maximize), keep=1, note={})
    algorithm = Counting()
    stub = SimpleNamespace(algorithm=algorithm, count=0, clock_paused=trainer_of(algorithm).clock_paused)
    saver.trainer = stub  # type: ignore[assignment]
    found = []
    for step, score in enumerate(scores, 1):
        stub.count = step
        saver.on_evaluate({"eval/score": score})
        found.append(checkpoint.verify(folder.checkpoints / "best")["step"] if saver.best_step else 0)
    return found


def test_the_best_is_the_highest_or_the_lowest_and_of_equal_ones_the_latest(run_folder: RunFolder) -> None:
    scores = [float("nan"), 1.0, 3.0, 2.0, 3.0, float("nan")]
    assert best_steps(run_folder, scores, maximize=True) == [0, 2, 3, 3, 5, 5]
    assert best_steps(run_folder, scores, maximize=False) == [0, 2, 2, 2, 2, 2]


def test_saving_is_put_off_while_it_takes_too_much_of_the_time(run_folder: RunFolder) -> None:
    algorithm = Counting(budget=100)
    objective = Objective("eval/score", maximize=True)
    saver = Saving(Interval(1), run_folder, objective, keep=100, note={}, share=0.0)
    trainer = Trainer(algorithm, Logger({}), [saver])
    trainer.run()
    assert [text for text in algorithm.journal if text.startswith("save")] == ["save 1", "save 100"]


# --- data: a validation part decides, the test part is looked at in the end ------------------------


class Validating(Counting):
    """Has a cheap measurement before the end; its scores come from a list; learns until `learned`."""

    transient = Counting.transient | {"scores", "learned"}

    def __init__(self, scores: list[float], learned: int = 1000) -> None:
        super().__init__(budget=100)
        self.scores, self.learned = scores, learned

    def step(self) -> Metrics:
        metrics = super().step()
        self.converged = "zero errors" if self.count >= self.learned else None
        return metrics

    def validate(self) -> Metrics:
        self.journal.append(f"validate {self.count}")
        return {"validation/score": self.scores[self.count // 10]}

    def evaluate(self) -> Metrics:
        return self.validate() | super().evaluate()


def early(patience: int) -> EarlyStopping:
    return EarlyStopping(Objective("validation/score", maximize=True), patience)


def test_the_test_part_is_measured_once_in_the_end(run_folder: RunFolder) -> None:
    algorithm = Validating([0.0] * 11)
    trainer = trainer_of(algorithm, run_folder, evaluate="50%")
    trainer.logger.open(run_folder)
    trainer.run()
    assert algorithm.journal == ["validate 50", "validate 100", "evaluate 100", "close"]
    assert [sorted(line) for line in untimed(run_folder)] == [
        ["step", "train/count", "validation/score"],
        ["eval/score", "step", "train/count", "validation/score"],
    ]


def test_patience_ends_the_run_and_the_test_part_is_still_measured() -> None:
    algorithm = Validating([0, 1, 2, 2, 1, 3, 9, 9, 9, 9, 9])
    status = trainer_of(algorithm, None, early(2), evaluate="10%").run()
    assert status == Status("finished", "--patience 2: validation/score got no better than 2")
    assert algorithm.journal[-3:] == ["validate 40", "evaluate 40", "close"]


def test_patience_begins_anew_with_every_better_evaluation() -> None:
    algorithm = Validating([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    assert trainer_of(algorithm, None, early(2), evaluate="10%").run().state == "finished"
    assert algorithm.count == 100


@pytest.mark.parametrize("learned", [37, 50])
def test_a_method_with_nothing_left_to_learn_finishes_with_the_final_evaluation(
    run_folder: RunFolder, learned: int
) -> None:
    algorithm = Validating([0.0] * 11, learned=learned)
    trainer = trainer_of(algorithm, run_folder, evaluate="50%", line="1")
    trainer.logger.open(run_folder)
    assert (trainer.run(), algorithm.count) == (Status("finished", "zero errors"), learned)
    assert algorithm.journal[-3:] == [f"validate {learned}", f"evaluate {learned}", "close"]
    assert untimed(run_folder)[-1]["eval/score"] == learned
