import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from rllab.errors import RunFailed
from rllab.logger import JsonLinesWriter, Logger, NonFinite, TensorBoardWriter, Writer
from rllab.runfolder import RunFolder


class Memory(Writer):
    """Keeps lines in a list."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def write(self, step: int, metrics: Any) -> None:
        self.lines.append((step, dict(metrics)))


def lines_of(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


# --- averages -----------------------------------------------------------------------------------------------


def test_a_line_has_the_average_since_the_last_one() -> None:
    logger = Logger({})
    for loss in (1.0, 2.0, 6.0):
        logger.record(1, {"train/loss": loss})
    logger.record(2, {"train/other": 5.0})
    assert logger.write(3, 0.5) == {"time": 0.5, "train/loss": 3.0, "train/other": 5.0, "time/steps_per_second": 6.0}
    logger.record(4, {"train/loss": 8.0})
    assert logger.write(4, 1.0) == {"time": 1.0, "train/loss": 8.0, "time/steps_per_second": 2.0}


def test_a_metric_may_be_declared_as_the_last_value_or_the_sum() -> None:
    logger = Logger({}, {"lr": "last", "episodes": "sum"})
    for value in (1.0, 2.0, 6.0):
        logger.record(1, {"lr": value, "episodes": value, "x": value})
    line = logger.write(1, 1.0)
    assert line is not None
    assert (line["lr"], line["episodes"], line["x"]) == (6.0, 9.0, 3.0)


@pytest.mark.parametrize("cut", [0, 1, 1023, 1024, 1025, 2999, 3000])
def test_averages_are_the_same_to_the_last_bit_when_a_checkpoint_comes_in_between(cut: int) -> None:
    values = np.random.default_rng(0).standard_normal(3000) * 10.0 ** (np.arange(3000) % 30)
    metrics = [{"a": float(v), "b": torch.tensor(v, dtype=torch.float32), "s": float(v), "l": float(v)} for v in values]
    reductions: dict[str, Any] = {"s": "sum", "l": "last"}
    straight, before, after = (Logger({}, reductions) for _ in range(3))
    for i, row in enumerate(metrics):
        straight.record(i, row)
    for i, row in enumerate(metrics[:cut]):
        before.record(i, row)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    for i, row in enumerate(metrics[cut:]):
        after.record(cut + i, row)
    assert after.write(3000, 2.0) == straight.write(3000, 2.0)


def test_taking_the_state_changes_nothing() -> None:
    logger = Logger({})
    logger.record(1, {"a": 1.0})
    logger.state_dict()
    logger.record(2, {"a": 2.0})
    assert logger.state_dict() == logger.state_dict()
    assert (logger.write(2, 1.0) or {})["a"] == 1.5


def test_tensors_are_not_moved_before_they_are_written() -> None:
    class Watched(torch.Tensor):
        touched = 0

        @classmethod
        def __torch_function__(cls, *arguments: Any, **options: Any) -> Any:
            Watched.touched += 1
            return super().__torch_function__(*arguments, **options)

    logger, value = Logger({}), torch.tensor(2.0).as_subclass(Watched)
    Watched.touched = 0
    for _ in range(100):
        logger.record(1, {"a": value})
    assert Watched.touched == 0
    assert (logger.write(1, 1.0) or {})["a"] == 2.0
    assert Watched.touched > 0


def test_numbers_and_tensors_of_any_type_go_into_one_average() -> None:
    logger = Logger({})
    for value in (1, 2.0, torch.tensor(3, dtype=torch.int64), torch.tensor(4.0, dtype=torch.bfloat16)):
        logger.record(1, {"a": value})
    assert (logger.write(1, 1.0) or {})["a"] == 2.5


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 6.0}],  # as many, but others
        [{"a": 1.0, "b": 2.0}, {"c": 6.0, "a": 3.0}],
        [{"a": 1.0, "b": 2.0}, {"b": 4.0, "a": 3.0}],  # the same in another order
        [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0, "c": 6.0}],
        [{"a": 1.0, "b": 2.0}, {"a": 3.0}],
        [{"a": 1.0}, {"a": 3.0, "b": 2.0}],
        [{"a": 1.0}, {"c": 3.0}],
        [{"a": 1.0}, {"a": 3.0}],
        [{}, {"a": 1.0, "b": 2.0}],
        [{"a": 1.0, "b": 2.0}, {}],
        [{}, {}],
    ],
    ids=str,
)
def test_each_metric_is_averaged_over_the_rows_that_have_it(rows: list[dict[str, float]]) -> None:
    logger, expected = Logger({}), {}
    for name in {name for row in rows for name in row}:
        values = [row[name] for row in rows if name in row]
        expected[name] = sum(values) / len(values)
    for step, row in enumerate(rows):
        logger.record(step, row)
    assert logger.averages() == expected


def test_a_loss_that_only_some_rows_have_is_found_at_the_step_of_its_row() -> None:
    logger = Logger({})
    for step, row in enumerate([{"a": 1.0, "b": 1.0}, {"a": 1.0, "loss": math.nan}, {"a": 1.0, "b": 1.0}]):
        logger.record(step, row)
    with pytest.raises(NonFinite, match=r"^loss became nan at step 1$"):
        logger.write(3, 1.0)


# --- steps and speed ----------------------------------------------------------------------------------------


def test_steps_rise_strictly_and_there_is_one_line_a_step() -> None:
    memory = Memory()
    logger = Logger({"memory": memory})
    for step in (0, 5, 5, 3, 6):
        logger.record(step, {"a": float(step)})
        logger.write(step, 1.0)
    assert [step for step, _ in memory.lines] == [0, 5, 6]
    assert memory.lines[-1][1]["a"] == pytest.approx((5 + 3 + 6) / 3)  # nothing that was recorded is lost


def test_speed_is_of_the_stretch_since_the_last_line_and_of_the_whole_run_at_the_end() -> None:
    logger = Logger({})
    speeds = [
        (logger.write(step, seconds, last=last) or {}).get("time/steps_per_second")
        for step, seconds, last in [(100, 1.0, False), (400, 2.0, False), (400 + 100, 4.0, True)]
    ]
    assert speeds == [100.0, 300.0, 125.0]


def test_speed_goes_on_after_a_checkpoint() -> None:
    logger, resumed = Logger({}), Logger({})
    logger.write(100, 1.0)
    resumed.load_state_dict(logger.state_dict())
    assert resumed.write(100, 1.5) is None
    assert (resumed.write(300, 2.0) or {})["time/steps_per_second"] == 200.0


def test_without_time_there_is_no_speed() -> None:
    assert Logger({}).write(0, 0.0) == {"time": 0.0}


# --- numbers that are none ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_its_first_step_and_the_line_is_written(run_folder: RunFolder) -> None:
    logger = Logger({"jsonl": JsonLinesWriter()})
    logger.open(run_folder)
    for step, loss in [(10, 1.0), (20, math.nan), (30, math.inf)]:
        logger.record(step, {"train/loss": loss, "train/return": 2.0})
    with pytest.raises(NonFinite, match=r"^train/loss became nan at step 20$"):
        logger.write(30, 1.0)
    assert lines_of(run_folder) == [
        {"step": 30, "time": 1.0, "train/loss": None, "train/return": 2.0, "time/steps_per_second": 30.0}
    ]
    logger.close("failed")


def test_of_several_losses_the_one_that_broke_first_is_named() -> None:
    logger = Logger({})
    logger.record(10, {"train/actor_loss": 1.0, "train/critic_loss": math.inf})
    logger.record(20, {"train/actor_loss": math.nan, "train/critic_loss": math.nan})
    with pytest.raises(NonFinite, match=r"^train/critic_loss became inf at step 10$"):
        logger.write(20, 1.0)


def test_a_loss_that_is_not_finite_is_found_before_a_checkpoint() -> None:
    logger = Logger({})
    logger.record(7, {"train/loss": torch.tensor(math.nan)})
    with pytest.raises(NonFinite, match=r"at step 7"):
        logger.state_dict()


def test_a_loss_that_is_not_finite_is_found_after_a_thousand_steps_without_a_line() -> None:
    def train(logger: Logger) -> None:
        for step in range(7, 2000):
            logger.record(step, {"train/loss": math.nan})

    with pytest.raises(RunFailed, match=r"at step 7"):
        train(Logger({}))


def test_large_finite_losses_are_no_error() -> None:
    logger = Logger({})
    for _ in range(2):
        logger.record(1, {"train/loss": 1.7e308, "train/other": 1.0})
    assert logger.write(1, 1.0) is not None


def test_another_metric_may_be_nan_and_becomes_null(run_folder: RunFolder) -> None:
    logger = Logger({"jsonl": JsonLinesWriter()})
    logger.open(run_folder)
    logger.record(1, {"eval/return": math.nan, "eval/elbo": -math.inf})
    logger.write(1, 0.0)
    logger.close("finished")
    assert lines_of(run_folder) == [{"step": 1, "time": 0.0, "eval/elbo": None, "eval/return": None}]


# --- writers ------------------------------------------------------------------------------------------------


def test_every_writer_is_closed_also_if_one_fails() -> None:
    closed = []

    class Closing(Memory):
        def close(self, status: str) -> None:
            closed.append(status)
            raise OSError(len(closed))

    with pytest.raises(OSError, match=r"1"):
        Logger({"a": Closing(), "b": Closing()}).close("failed")
    assert closed == ["failed", "failed"]


def test_json_lines_are_cut_to_the_checkpoint_when_a_run_goes_on(run_folder: RunFolder) -> None:
    killed = Logger({"jsonl": JsonLinesWriter()})
    killed.open(run_folder)
    killed.record(1, {"a": 1.0})
    killed.write(1, 1.0)
    killed.flush()
    state = killed.state_dict()
    killed.write(2, 2.0)
    killed.close("failed")
    with run_folder.metrics_file.open("a") as file:
        file.write('{"step": 3, "ti')  # a line that a kill cut short

    resumed = Logger({"jsonl": JsonLinesWriter()})
    resumed.load_state_dict(state)
    resumed.open(run_folder, resumed_at=1)
    resumed.record(5, {"a": 5.0})
    resumed.write(5, 5.0)
    resumed.close("finished")
    assert [(line["step"], line["a"]) for line in lines_of(run_folder)] == [(1, 1.0), (5, 5.0)]


def test_json_lines_of_a_run_killed_before_its_first_checkpoint_begin_anew(run_folder: RunFolder) -> None:
    for step in (1, 2):
        logger = Logger({"jsonl": JsonLinesWriter()})
        logger.open(run_folder)
        logger.write(step, 1.0)
        logger.close("failed")
    assert [line["step"] for line in lines_of(run_folder)] == [2]


# --- TensorBoard, read with its own reader ------------------------------------------------------------------


@pytest.fixture
def seconds_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every event file a second of its own; their names, and so their order, begin with it."""
    import tensorboard.summary.writer.event_file_writer as files

    clock = iter(range(1_700_000_000, 1_800_000_000))

    class Time:
        time = staticmethod(lambda: float(next(clock)))

    monkeypatch.setattr(files, "time", Time)


def events_of(folder: RunFolder) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(folder: RunFolder, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events_of(folder).Scalars(name)]


def test_tensorboard_has_every_metric_by_step_but_the_time(run_folder: RunFolder) -> None:
    logger = Logger({"tensorboard": TensorBoardWriter()})
    logger.open(run_folder)
    for step in (10, 20):
        logger.record(step, {"eval/return": step / 4})
        logger.write(step, step / 2)
    logger.media(20, "picture", np.zeros((2, 3, 3), np.uint8))
    logger.media(20, "words", "to be")
    logger.close("finished")
    assert scalars(run_folder, "eval/return") == [(10, 2.5), (20, 5.0)]
    tags = events_of(run_folder).Tags()
    assert sorted(tags["scalars"]) == ["eval/return", "time/steps_per_second"]
    assert tags["images"] == ["picture"]
    assert "words/text_summary" in tags["tensors"]


def test_a_caption_stands_beside_its_metric_in_tensorboard(run_folder: RunFolder) -> None:
    run_folder.update(captions={"eval/return": "of whole episodes"})
    logger = Logger({"tensorboard": TensorBoardWriter()})
    logger.open(run_folder)
    for step in (10, 20):
        logger.record(step, {"eval/return": step / 4, "train/loss": 1.0})
        logger.write(step, step / 2)
    logger.close("finished")
    events = events_of(run_folder)
    assert events.SummaryMetadata("eval/return").summary_description == "of whole episodes"
    assert scalars(run_folder, "eval/return") == [(10, 2.5), (20, 5.0)]


@pytest.mark.usefixtures("seconds_pass")
def test_a_resumed_run_has_no_seam_in_tensorboard(run_folder: RunFolder) -> None:
    """Killed twice after a checkpoint at 20, each time with lines already written beyond it, one of them at 20."""
    state: dict[str, Any] | None = None
    for last in (30, 40, 50):
        logger = Logger({"tensorboard": TensorBoardWriter()})
        if state is not None:
            logger.load_state_dict(state)
        logger.open(run_folder, resumed_at=None if state is None else 20)
        for step in range(10, last + 1, 10):
            if state is not None and step == 10:
                continue
            if state is None and step == 20:
                # the checkpoint of a stop at 20, where a line was still due
                logger.flush()
                state = logger.state_dict()
            logger.record(step, {"a": float(last)})
            logger.write(step, float(step))
        logger.close("failed")
    assert scalars(run_folder, "a") == [(10, 30.0), (20, 50.0), (30, 50.0), (40, 50.0), (50, 50.0)]


@pytest.mark.usefixtures("seconds_pass")
def test_a_run_killed_before_its_first_checkpoint_shows_once_in_tensorboard(run_folder: RunFolder) -> None:
    for value in (1.0, 2.0):
        logger = Logger({"tensorboard": TensorBoardWriter()})
        logger.open(run_folder)
        logger.record(10, {"a": value})
        logger.write(10, 1.0)
        logger.close("failed")
    assert scalars(run_folder, "a") == [(10, 2.0)]


@pytest.mark.usefixtures("seconds_pass")
def test_a_writer_that_was_not_there_at_the_checkpoint_hides_nothing_from_before_it(run_folder: RunFolder) -> None:
    first = Logger({"tensorboard": TensorBoardWriter()})
    first.open(run_folder)
    first.record(10, {"a": 1.0})
    first.write(10, 1.0)
    first.close("stopped")
    later = Logger({"tensorboard": TensorBoardWriter()})
    later.load_state_dict({**first.state_dict(), "writers": {}})
    later.open(run_folder, resumed_at=20)
    later.record(30, {"a": 3.0})
    later.write(30, 3.0)
    later.close("finished")
    assert scalars(run_folder, "a") == [(10, 1.0), (30, 3.0)]


@pytest.mark.parametrize(("status", "code"), [("finished", 1), ("failed", 2), ("stopped", 0)])
def test_hyperparameters_are_in_the_runs_own_file_and_their_metric_is_found(
    run_folder: RunFolder, status: str, code: int
) -> None:
    from tensorboard.plugins.hparams import metadata

    logger = Logger({"tensorboard": TensorBoardWriter()})
    logger.open(run_folder)
    logger.record(10, {"eval/return": 7.0})
    logger.write(10, 1.0)
    logger.close(status)
    assert [path for path in run_folder.path.iterdir() if path.is_dir()] == []  # no run beside the run
    content = events_of(run_folder).summary_metadata

    def parsed(tag: str) -> Any:
        return metadata.parse_session_start_info_plugin_data(content[tag].plugin_data.content)

    start = parsed("_hparams_/session_start_info")
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values == {
        "method": "toy",
        "task": "numbers",
        "seed": 3.0,
        "lr": 0.5,
        "hidden": "4,4",
        "name": "none",
        "noise": 0.1,
    }
    experiment = metadata.parse_experiment_plugin_data(content["_hparams_/experiment"].plugin_data.content)
    assert [info.name.tag for info in experiment.metric_infos] == ["eval/return"]
    assert scalars(run_folder, experiment.metric_infos[0].name.tag)[-1] == (10, 7.0)
    end = metadata.parse_session_end_info_plugin_data(content["_hparams_/session_end_info"].plugin_data.content)
    assert end.status == code


def test_media_do_not_count_as_lines(run_folder: RunFolder) -> None:
    logger = Logger({"jsonl": JsonLinesWriter()})
    logger.open(run_folder)
    logger.media(5, "picture", np.zeros((1, 1, 3), np.uint8))
    logger.close("finished")
    assert lines_of(run_folder) == []
