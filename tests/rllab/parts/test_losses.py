import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rllab.parts.losses import LOSSES, cross_entropy, huber, squared

THEIRS: dict[str, Any] = {"squared": nn.functional.mse_loss, "huber": nn.functional.smooth_l1_loss}


def test_the_squared_error_by_hand() -> None:
    """The errors -3, 1, 0 and 2 have the squares 9, 1, 0 and 4, and d/de e^2 / 4 = e / 2."""
    loss, slopes = squared(torch.tensor([-3.0, 1.0, 0.0, 2.0]))
    assert loss.item() == 3.5
    assert slopes.tolist() == [-1.5, 0.5, 0.0, 1.0]


def test_hubers_loss_by_hand() -> None:
    """It is e^2 / 2 up to 1, so 0.125 and 0.5, and |e| - 1/2 beyond, so 2.5; slopes end at 1, over 4."""
    loss, slopes = huber(torch.tensor([-3.0, 0.5, 0.0, 1.0]))
    assert loss.item() == (2.5 + 0.125 + 0 + 0.5) / 4
    assert slopes.tolist() == [-0.25, 0.125, 0.0, 0.25]


def test_every_loss_has_torchs_to_compare_it_with() -> None:
    assert set(LOSSES) == set(THEIRS)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_values_are_torchs_and_slopes_are_autograds(name: Any, size: int, scale: float) -> None:
    torch.manual_seed(0)
    predictions, targets = (scale * torch.randn(size)).requires_grad_(), scale * torch.randn(size)
    expected = THEIRS[name](predictions, targets)
    (by_predictions,) = torch.autograd.grad(expected, predictions)
    loss, slopes = LOSSES[name](predictions.detach() - targets)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slopes, by_predictions)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_error_that_is_not_finite_makes_a_loss_that_is_not(name: Any, value: float) -> None:
    loss, _ = LOSSES[name](torch.tensor([1.0, value]))
    assert not math.isfinite(loss.item())


@pytest.mark.parametrize("name", THEIRS)
def test_the_errors_stay_as_they_were(name: Any) -> None:
    errors: Tensor = torch.tensor([-3.0, 0.5])
    LOSSES[name](errors)
    assert errors.tolist() == [-3.0, 0.5]


# --- of classes ---------------------------------------------------------------------------------------------


def test_the_cross_entropy_by_hand() -> None:
    """Logits 0 and log 3 are probabilities 1/4 and 3/4; twice, for the one class and for the other."""
    loss, gradient = cross_entropy(torch.tensor([[0.0, math.log(3)]] * 2), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert gradient.flatten().tolist() == pytest.approx([-0.375, 0.375, 0.125, -0.125])


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_cross_entropy_is_torchs_and_its_gradient_autograds(size: int, scale: float) -> None:
    torch.manual_seed(0)
    logits, targets = (scale * torch.randn(size, 5)).requires_grad_(), torch.randint(5, (size,))
    expected = nn.functional.cross_entropy(logits, targets)
    (by_logits,) = torch.autograd.grad(expected, logits)
    loss, gradient = cross_entropy(logits.detach(), targets)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, by_logits)
