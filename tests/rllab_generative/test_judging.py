"""The command that asks the judge about runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rllab_generative.judge import Judge
from rllab_generative.judging import judge_command
from torch import Tensor

from rllab import results
from rllab.data import DatasetTask
from rllab.generative import ImageModel, Pixels
from rllab.minibatches import epoch_order

pytestmark = pytest.mark.usefixtures("kept_judges")


class Copier(ImageModel):
    """Draws training images; `conditional` ones of the classes that are asked for."""

    def __init__(self, task: DatasetTask, by_class: bool = False) -> None:
        self.task, self.device, self.by_class = task, torch.device("cpu"), by_class
        self.classes, self.shape = task.classes, task.shape

    @property
    def conditional(self) -> bool:
        return self.by_class

    def sample(self, n: int, *, labels: Tensor | None = None, generator: torch.Generator) -> Tensor:
        train = self.task.data.train
        assert (labels is None) != self.by_class
        if labels is None:
            rows = torch.randint(len(train), (n,), generator=generator)
        else:
            order = epoch_order(len(train), np.random.SeedSequence(1))
            by_class = [order[train.targets[order] == number] for number in range(10)]
            rows = torch.stack([by_class[label][i % 100] for i, label in enumerate(labels.tolist())])
        return Pixels(train.inputs)(train.inputs[rows])

    measure: Any = None
    draw: Any = None
    step: Any = None
    objective: Any = None


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: DatasetTask) -> dict[str, Any]:
    """Models by the names of runs, which the command finds."""
    models: dict[str, Any] = {
        "a": Copier(digits),
        "b": Copier(digits, by_class=True),
        "other": Copier(DatasetTask.open("digits", digits.config, seed=1)),
    }

    class Found:
        def __init__(self, name: str) -> None:
            self.name, self.path, self.info = name, tmp_path / "runs" / name, {"method": "copier"}

        def load(self, which: str, *, device: str) -> Any:
            assert (which, device) == ("last", "auto")
            return models[self.name]

    monkeypatch.setattr(results, "load", lambda run, *, runs_dir: Found(run))
    monkeypatch.chdir(tmp_path)
    return models


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(judge_command, arguments, standalone_mode=False)


@pytest.mark.usefixtures("quick")
def test_the_command_prints_runs_and_reference_rows(runs: dict[str, Any]) -> None:
    result = ask("a", "b", "-n", "400")
    assert result.exception is None
    lines = result.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["a", "b", "training images", "blurred a little"]
    assert lines[2].split("|")[-2].strip() == "yes"
    assert lines[3].split("|")[-2].strip() == "no"
    assert "a: drawing 400 images" in result.stderr


@pytest.mark.usefixtures("quick")
def test_the_command_as_json_has_everything_by_name(runs: dict[str, Any], judge: Judge) -> None:
    result = ask("a", "other", "--json", "--no-train-on-samples", "--seed", "3")
    first, second = json.loads(result.stdout)
    assert first["judge"] == {"hash": judge.hash, "accuracy": judge.accuracy}
    assert first["judge"]["hash"] != second["judge"]["hash"]  # another split: another judge, and a table of its own
    assert (first["n"], first["seed"], first["against"]) == (1286, 3, {"part": "test", "items": 360})
    row = first["rows"][0]
    assert (row["row"], row["kind"]) == ("a", "run")
    assert row["copied"] == 1
    assert "trained_on_samples" not in row
    assert {row["kind"] for row in first["rows"][1:]} == {"reference"}


def test_the_command_refuses_what_draws_no_images(runs: dict[str, Any], digits: DatasetTask) -> None:
    runs["a"] = object()
    assert "which draws no images" in str(ask("a").exception)
    runs["b"].refuses_sampling = "an autoencoder has no distribution to draw from"
    assert "no distribution to draw from" in str(ask("b").exception)
    assert "300 drawn images are too few" in str(ask("other", "-n", "300").exception)
    assert "at most" in str(ask("other", "-n", "5000").exception)
