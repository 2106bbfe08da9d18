import random
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.config import Config
from rllab.parts.optim import GradientSteps
from rllab.seeding import Streams, global_state
from rllab.state import UncapturedState
from rllab.testing import first_difference


class Regression(Algorithm):
    """Fits a line to noise, with something of every kind on itself."""

    unit = "examples"
    transient = frozenset({"cache"})

    @classmethod
    def objective(cls, task: Any) -> Objective:
        return Objective("eval/rmse", maximize=False)

    @property
    def budget(self) -> int:
        return 100

    def __init__(self, seed: int = 0) -> None:
        super().__init__(Config(), None, device=torch.device("cpu"), streams=Streams(seed))
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    def setup(self) -> None:
        self.optimizer = GradientSteps(self.model, lr=0.1)
        self.rng = self.streams.numpy("data")
        self.last: deque[float] = deque(maxlen=3)
        self.best = np.inf
        self.cache = object()

    def step(self) -> Metrics:
        self.count += 1
        x = torch.from_numpy(self.rng.random((8, 2), np.float32))
        loss = self.model(x).square().mean()
        self.optimizer(loss)
        self.last.append(loss.item())
        self.best = min(self.best, loss.item())
        return {"train/loss": loss.detach()}

    def evaluate(self) -> Metrics:
        with self.undisturbed():
            draws = random.random(), np.random.random(), self.rng.random(), self.streams.numpy("new").random()
            x = torch.rand(8, 2, generator=self.streams.torch("evaluation"))
            return {"eval/rmse": float(self.model(x).square().mean()) + sum(draws) + float(torch.rand(1))}


def ready(steps: int = 0) -> Regression:
    algorithm = Regression()
    algorithm.setup()
    for _ in range(steps):
        algorithm.step()
    return algorithm


def test_everything_on_self_is_collected_without_being_listed() -> None:
    algorithm = ready(3)
    state = algorithm.state_dict()
    assert set(state["weights"]) == {"model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias"}
    assert set(state["state"]) == {
        "streams",
        "count",
        "converged",
        "optimizer",
        "rng",
        "last",
        "best",
        "__frozen__",
        "__parts__",
    }
    assert state["state"]["count"] == 3
    assert state["state"]["last"] == algorithm.last


def test_a_loaded_algorithm_goes_on_as_if_never_stopped() -> None:
    algorithm, other = ready(3), ready(1)
    torch.manual_seed(1)  # dropout draws from the global generator, which the checkpoint keeps beside the state
    other.load_state_dict(algorithm.state_dict())
    torch.manual_seed(1)
    losses = [algorithm.step()["train/loss"].item() for _ in range(4)]  # type: ignore[union-attr]
    torch.manual_seed(1)
    assert [other.step()["train/loss"].item() for _ in range(4)] == losses  # type: ignore[union-attr]
    assert other.last == algorithm.last
    assert other.last.maxlen == 3
    assert other.count == 7


def test_an_attribute_that_cannot_be_kept_is_named() -> None:
    algorithm = ready()
    algorithm.reader = iter([1])  # type: ignore[attr-defined]
    with pytest.raises(UncapturedState, match=r"^reader is a builtins.list_iterator, whose state cannot be kept"):
        algorithm.state_dict()


def test_a_transient_attribute_is_left_out_and_left_alone() -> None:
    algorithm, other = ready(), ready()
    cache = other.cache
    other.load_state_dict(algorithm.state_dict())
    assert other.cache is cache


def test_acting_weights_load_without_setup_and_ignore_what_only_training_has() -> None:
    algorithm, bare = ready(2), Regression()
    bare.load_weights({**algorithm.state_dict()["weights"], "critic.weight": torch.ones(1)})
    assert torch.equal(bare.model[0].weight, algorithm.model[0].weight)
    with pytest.raises(ValueError, match=r"the saved weights have no model.0.bias"):
        bare.load_weights({})


def test_evaluating_undisturbed_leaves_modes_and_every_random_stream_as_they_were() -> None:
    algorithm = ready(2)
    algorithm.model[1].eval()
    modes = [part.training for part in algorithm.model.modules()]
    before = global_state(), algorithm.streams.state_dict(), algorithm.state_dict()["state"]
    first, second = algorithm.evaluate(), algorithm.evaluate()
    after = global_state(), algorithm.streams.state_dict(), algorithm.state_dict()["state"]
    assert first_difference(before, after) is None
    assert first == second
    assert [part.training for part in algorithm.model.modules()] == modes == [True, True, False, True]


def test_undisturbed_is_evaluation_mode_without_gradients_and_ends_with_an_error_as_well() -> None:
    algorithm = ready()

    def breaking() -> None:
        with algorithm.undisturbed():
            assert not any(part.training for part in algorithm.model.modules())
            assert not torch.is_grad_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        breaking()
    assert all(part.training for part in algorithm.model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("maximize", "value", "best", "better"),
    [
        (True, 2.0, 1.0, True),
        (True, 1.0, 1.0, True),
        (True, 0.0, 1.0, False),
        (False, 0.0, 1.0, True),
        (False, 2.0, 1.0, False),
        (True, -1e9, None, True),
        (True, float("nan"), None, False),
        (False, float("nan"), 1.0, False),
    ],
)
def test_the_objective_compares_in_its_direction_and_nan_is_never_good(
    maximize: bool, value: float, best: float | None, better: bool
) -> None:
    assert Objective("x", maximize).at_least_as_good(value, best) is better
