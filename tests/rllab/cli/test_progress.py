"""The live panel, the lines elsewhere, and the summary."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rllab.algorithm import Objective
from rllab.cli.progress import Display, Lines, Panels, _clock
from rllab.runfolder import RunFolder
from rllab.trainer import Status

METRICS = {
    "eval/return": 206.7,
    "train/return": 45.25,
    "train/loss": 3.695e-05,
    "train/epsilon": 0.05,
    "train/lr": 1e-3,
}


def trainer(count: int) -> Any:
    algorithm = SimpleNamespace(
        budget=50_000, unit="env steps", task=None, objective=lambda task: Objective("eval/return", maximize=True)
    )
    return SimpleNamespace(count=count, algorithm=algorithm, logger=SimpleNamespace(latest={}))


def panel(width: int, count: int = 10_450, metrics: dict[str, float] = METRICS) -> list[str]:
    """Return the lines of the panel on a terminal of some width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    shown = Panels(console)
    shown.trainer, shown.shown = trainer(count), dict(metrics)
    shown.began -= 10
    with console.capture() as capture:
        console.print(shown.render())
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("count", [0, 1, 10_450, 50_000])
def test_the_panel_has_four_lines_of_one_width_and_no_more(width, count):
    for metrics in ({}, {"train/return": 9.0}, METRICS):
        lines = panel(width, count, metrics)
        assert [len(line) for line in lines] == [width] * 4


def test_the_panel_shows_how_far_it_is_and_the_last_scores_first():
    bar, numbers = panel(80)[1:3]
    assert " 21%  10,450/50,000 env steps" in bar
    assert "left" in bar
    for part in ("/s ", "evaluation 206.7", "return 45.25", "loss 3.695e-05"):
        assert part in numbers
    assert "lr" not in numbers
    assert "lr 0.001" in panel(120)[2]


def test_numbers_keep_their_places_when_they_grow():
    few = panel(120, metrics={**METRICS, "eval/return": 9.0, "train/loss": 1.0})[2]
    many = panel(120)[2]
    for label in ("evaluation", "return", "loss", "epsilon", "lr"):
        assert few.index(f"{label} ") == many.index(f"{label} ")


def test_elsewhere_a_line_says_the_same_without_escapes():
    console = Console(file=io.StringIO(), width=80)
    shown = Lines(console)
    shown.trainer, shown.shown = trainer(10_450), dict(METRICS)
    with console.capture() as capture:
        shown.on_due()
    (line,) = capture.get().splitlines()
    assert line.startswith("10,450/50,000 env steps (21%)  ")
    assert "evaluation 206.7  return 45.25  loss 3.695e-05  epsilon 0.05  lr 0.001" in line
    assert "\x1b" not in line


def test_a_last_step_beyond_the_budget_is_all_of_it_and_takes_no_time():
    console = Console(file=io.StringIO(), width=100)
    shown = Lines(console)
    shown.trainer, shown.shown = trainer(50_700), {}
    with console.capture() as capture:
        shown.on_due()
    line = capture.get()
    assert line.startswith("50,700/50,000 env steps (100%)  ")
    assert "  0 s left" in line
    bar = panel(80, 50_700)[1]
    assert "100%  50,700/50,000 env steps" in bar
    assert " 0 s left" in bar


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (47.4, "47 s"), (59.7, "1:00 min"), (185, "3:05 min"), (7800, "2:10 h"), (3599.6, "1:00 h")],
)
def test_times_are_written_as_one_reads_them(seconds, text):
    assert _clock(seconds) == text


def test_a_time_that_is_not_known_is_a_question_mark():
    assert _clock(float("inf")) == "?"


# --- the summary --------------------------------------------------------------------------------------------


def summary(tmp_path: Path, state: str = "finished", **info: Any) -> str:
    """Return what is printed at the end of a run."""
    known: dict[str, Any] = {
        "method": "knn",
        "task": "digits",
        "seed": 0,
        "unit": "examples",
        "objective": {"metric": "eval/accuracy", "maximize": True},
        "totals": {"steps": 1437, "seconds": 0.5},
    }
    folder = RunFolder(tmp_path, known | info)
    display = Display(quiet=False, live=False)
    display.console = Console(file=io.StringIO(), width=200)
    with display.console.capture() as capture:
        display.summary(folder, Status(state, "the budget is used up"))  # type: ignore[arg-type]
    return capture.get()


def test_the_summary_of_a_predictor_has_the_baseline_and_its_own_commands(tmp_path):
    text = summary(tmp_path, metrics={"eval/accuracy": 0.97222, "eval/majority_accuracy": 0.08056})
    assert "eval/accuracy 0.9722 at the end\nThe baseline, always the most frequent class: 0.08056\n" in text
    commands = [line.split()[1] for line in text.splitlines() if line.startswith("  rllab")]
    assert commands == ["eval", "predict", "run"]
    numbers = {"objective": {"metric": "eval/rmse", "maximize": False}}
    text = summary(tmp_path, **numbers, metrics={"eval/rmse": 1.5, "eval/mean_rmse": 2.0})
    assert "eval/rmse 1.5 at the end\nThe baseline, always the mean of the targets: 2\n" in text


def test_the_summary_of_a_model_of_texts_has_its_baselines_in_nats_and_bits(tmp_path):
    measured = {"eval/nats_per_character": 1.5, "eval/unigram_nats": 3.3, "eval/bigram_nats": 2.5, "eval/gzip_nats": 2}
    numbers = {"objective": {"metric": "eval/nats_per_character", "maximize": False}, "draws": True}
    captions = {"eval/nats_per_character": "test part"}
    lines = summary(tmp_path, **numbers, metrics=measured, captions=captions).splitlines()
    assert lines[1:5] == [
        "eval/nats_per_character 1.5 nats, 2.164 bits at the end (test part)",
        "The baseline, characters by how often they occur: 3.3 nats, 4.761 bits",
        "The baseline, each by the one before it: 2.5 nats, 3.607 bits",
        "The baseline, gzip: 2 nats, 2.885 bits",
    ]
    commands = [line.split()[1] for line in lines if line.startswith("  rllab")]
    assert commands == ["eval", "sample", "run"]  # there are baselines, and nothing to predict
    assert any(line.endswith("# write something new") for line in lines)
    assert "# draw something new" in summary(tmp_path, draws=True)


def test_the_summary_names_the_metric_that_picked_the_best_checkpoint(tmp_path):
    best = {"metric": "validation/accuracy", "value": 0.65, "step": 1000}
    text = summary(tmp_path, metrics={"eval/accuracy": 0.685}, best=best)
    assert "eval/accuracy 0.685 at the end, best validation/accuracy 0.65 at step 1,000\n" in text


def test_the_summary_of_an_agent_has_no_baseline_and_nothing_to_predict(tmp_path):
    text = summary(tmp_path, metrics={"eval/accuracy": 0.5})
    assert "baseline" not in text
    assert "predict" not in text
    assert "Pictures" not in text


def test_the_summary_says_where_pictures_are(tmp_path):
    (tmp_path / "media").mkdir()
    assert "Pictures" not in summary(tmp_path)
    (tmp_path / "media" / "curves-000001437.png").write_bytes(b"")
    assert f"Pictures: {tmp_path / 'media'}\n" in summary(tmp_path)
