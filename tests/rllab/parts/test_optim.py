import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rllab.errors import RunFailed
from rllab.parts.optim import GradientSteps
from rllab.state import capture, load_weights, restore, weights
from rllab.testing import first_difference

X, Y = torch.linspace(-1, 1, 24).reshape(8, 3), torch.linspace(0, 2, 8)[:, None]

THEIRS: dict[str, Any] = {
    "adam": lambda p, decay: torch.optim.Adam(p, lr=0.01, weight_decay=decay),
    "adamw": lambda p, decay: torch.optim.AdamW(p, lr=0.01, weight_decay=decay),
    "rmsprop": lambda p, decay: torch.optim.RMSprop(p, lr=0.01, weight_decay=decay),
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.01, weight_decay=decay),
    "momentum": lambda p, decay: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=decay),
    "adagrad": lambda p, decay: torch.optim.Adagrad(p, lr=0.01, weight_decay=decay, eps=1e-8),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def loss_of(model: nn.Module) -> Tensor:
    return ((model(X) - Y) ** 2).mean() * 20


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_on_the_flat_tensor_equal_torchs_on_the_separate_ones(name: Any, clip: float, decay: float) -> None:
    ours, theirs = network(), network()
    step = GradientSteps(ours, optimizer=name, lr=0.01, max_grad_norm=clip, weight_decay=decay)
    optimizer = THEIRS[name](theirs.parameters(), decay)
    for _ in range(20):
        norm = step(loss_of(ours))
        optimizer.zero_grad()
        loss_of(theirs).backward()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip or math.inf)
        optimizer.step()
        torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_step_of_plain_gradient_descent_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    norm = GradientSteps(model, optimizer="sgd", lr=0.1)(model.weight.square().sum())  # gradient 2 * 3
    assert norm.item() == pytest.approx(6.0)
    assert model.weight.item() == pytest.approx(3.0 - 0.1 * 6.0)


def test_the_gradient_is_clipped_to_the_norm_over_all_parameters() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0, max_grad_norm=1.0)
    norm = step((model.weight * torch.tensor([3.0, 4.0])).sum())  # gradient (3, 4) of norm 5
    assert norm.item() == 5.0
    assert model.weight.tolist()[0] == pytest.approx([-0.6, -0.8])


def test_the_step_size_can_be_given_with_each_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0)
    for lr in (0.5, 0.25):
        step(model.weight.sum(), lr=lr)
    step(model.weight.sum())
    assert model.weight.item() == -1.0  # the last one holds until another is given


def test_parameters_that_are_frozen_or_of_other_modules_stay() -> None:
    trained, frozen, other = nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False), nn.Linear(1, 1)
    before = copy.deepcopy([frozen, other])
    GradientSteps([trained, frozen], lr=1.0)(sum(m(torch.ones(1, 1)).sum() for m in (trained, frozen, other)))
    for one, was in zip([frozen, other], before, strict=True):
        assert torch.equal(one.weight, was.weight)


def test_gradients_of_an_earlier_loss_do_not_leak_into_a_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0)
    (100 * model.weight.sum()).backward()
    step(model.weight.sum())
    assert model.weight.item() == -1.0


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"there are no parameters to train"):
        GradientSteps(nn.Linear(1, 1).requires_grad_(False), lr=1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_raises_and_changes_no_weight(value: float) -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RunFailed, match=rf"the loss became {value}\nTry a smaller --lr"):
        GradientSteps(model, lr=0.1)(loss_of(model) * value)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


# --- state --------------------------------------------------------------------------------------------------


class Learner:
    def __init__(self, optimizer: Any) -> None:
        self.model = network()
        self.step = GradientSteps(self.model, optimizer=optimizer, lr=0.01, max_grad_norm=1.0)

    def train(self, steps: int) -> None:
        for i in range(steps):
            self.step(loss_of(self.model), lr=0.01 / (i + 1))


@pytest.mark.parametrize("name", THEIRS)
def test_a_restored_optimiser_goes_on_to_the_last_bit_and_shares_nothing(name: str) -> None:
    one, other = Learner(name), Learner(name)
    one.train(5)
    load_weights(other, weights(one))
    restore(other.step, capture(one.step))
    kept = copy.deepcopy(capture(one.step)), copy.deepcopy(weights(one))
    other.train(5)
    assert first_difference(kept, (capture(one.step), weights(one))) is None
    one.train(5)
    assert first_difference((capture(one.step), weights(one)), (capture(other.step), weights(other))) is None


def test_parameters_remain_views_of_the_flat_tensor_after_weights_are_loaded() -> None:
    one, other = Learner("adam"), Learner("adam")
    one.train(3)
    load_weights(other, weights(one))
    flat = other.step._flat
    assert all(
        parameter.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
        for parameter in other.model.parameters()
    )
    assert torch.equal(flat, torch.cat([p.flatten() for p in one.model.parameters()]))
    before = loss_of(other.model)
    other.train(3)
    assert loss_of(other.model) < before
