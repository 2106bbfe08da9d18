import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_supervised.perceptron import Perceptron, PerceptronConfig

from rllab import experiment, planning
from rllab.algorithm import Algorithm
from rllab.config import Config
from rllab.data import Data, DatasetConfig, DatasetTask, classification
from rllab.errors import UsageError
from rllab.seeding import Streams
from rllab.testing import check_algorithm


def perceptron(inputs: Any, targets: Any, **options: Any) -> Perceptron:
    """Return a perceptron for some points, which it is tested on as well."""
    part = classification(np.asarray(inputs, np.float32), targets)
    data = Data(part, tuple(map(str, range(max(targets) + 1))), test=part)
    task = DatasetTask("points", DatasetConfig(), data)
    config: Config = PerceptronConfig(**options)
    model = Perceptron(config, task, device=torch.device("cpu"), streams=Streams(0))
    model.setup()
    return model


def finish(model: Algorithm) -> None:
    while model.count < model.budget and not model.converged:
        model.step()


@pytest.mark.parametrize(("target", "steps"), [("digits", 3), ("spiral", 3), ("crescents", 2)])
def test_the_perceptron_keeps_the_contract(target: str, steps: int) -> None:
    check_algorithm("perceptron", target, steps=steps, epochs=8)


def test_the_rule_by_hand() -> None:
    """w = 0 errs on (1, 2) of class 1: w = (1, 2, 1). Then -(1 - 0 + 1) < 0, so (1, 0) of class -1 pulls it back."""
    model = perceptron([[1, 2], [1, 0]], [1, 0])
    x, y = np.array([[1.0, 2.0, 1.0], [1.0, 0.0, 1.0]]), np.array([1, -1])
    w = np.zeros(3)
    assert model.two(w, x, y, np.array([0, 1])) == 2
    assert w.tolist() == [0, 2, 0]
    assert model.two(w, x, y, np.array([0, 1])) == 1  # (1, 2) scores 4; (1, 0) scores 0, which is not below it
    assert w.tolist() == [-1, 2, -1]
    assert model.two(w, x, y, np.array([0, 1])) == 0  # 2, and -2


def test_the_rule_for_three_classes_by_hand() -> None:
    """At 0 all are tied: class 2 errs in favour of 0, the first; then class 0 scores -1 of (1,) and errs against 1."""
    model = perceptron([[1], [2], [3]], [0, 1, 2])
    w, x, y = np.zeros((3, 1)), np.array([[1.0], [2.0]]), np.array([2, 0])
    assert model.several(w, x, y, np.array([0, 1])) == 2
    assert w.flatten().tolist() == [-1 + 2, 0, 1 - 2]


def test_an_epoch_without_an_error_ends_the_run() -> None:
    model = perceptron([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 0, 1])  # AND
    finish(model)
    assert model.converged == "an epoch went by without an error: the classes are separated"
    assert model.evaluate()["eval/accuracy"] == 1.0
    assert model.count < model.budget


def test_xor_does_not_converge_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = perceptron([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=30)
    with caplog.at_level(logging.WARNING, logger="rllab"):
        for epoch in range(30):
            assert not caplog.records, f"warned in epoch {epoch}, before the last"
            model.step()
    (record,) = caplog.records
    assert "has not converged" in record.getMessage()
    assert "in the last of 30 epochs" in record.getMessage()


def test_the_product_of_the_inputs_makes_xor_separable() -> None:
    planned = planning.plan("perceptron", "xor", {"features": "x,y,xy", "device": "cpu", "epochs": 200})
    model, _ = experiment.build(planned)
    model.setup()
    finish(model)
    assert model.converged
    assert model.evaluate()["eval/accuracy"] > 0.95


def test_the_step_size_scales_the_weights_and_changes_no_prediction() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(50, 2)), rng.integers(3, size=50)
    one, other = (perceptron(points, labels, lr=lr, epochs=5) for lr in (1.0, 4.0))
    for _ in range(5):
        assert one.step() == other.step()
    torch.testing.assert_close(4 * one.linear.weight, other.linear.weight)


def test_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="it predicts classes, and the target of diabetes is a number"):
        planning.plan("perceptron", "diabetes")


def test_a_run_that_converges_is_finished(tmp_path: Path) -> None:
    values = {"runs_dir": tmp_path, "device": "cpu", "logger": "none"}
    folder, status = experiment.start(planning.plan("perceptron", "digits", values))
    assert (status.state, status.reason) == (
        "finished",
        "an epoch went by without an error: the classes are separated",
    )
    assert folder.info["totals"]["steps"] < 100 * 1437
