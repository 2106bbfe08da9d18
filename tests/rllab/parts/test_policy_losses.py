import math

import pytest
import torch
from torch import Tensor

from rllab.parts.policy_losses import clipped_surrogate, clipped_values, normalised, policy_gradient


def slope_of(loss: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(loss, by)[0]


def test_the_policy_gradient_weighs_log_probabilities() -> None:
    log_probs = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss, slope = policy_gradient(log_probs, torch.tensor([3.0, -1.0]))
    assert loss.item() == pytest.approx(0.5)  # -(-3 + 2) / 2
    assert torch.allclose(slope, slope_of(loss, log_probs))


def test_the_surrogate_is_clipped_where_the_ratio_has_earned_enough() -> None:
    ratios, advantages = [1.5, 1.5, 0.5, 0.5, 1.1], [1.0, -1.0, 1.0, -1.0, 2.0]
    loss, slope = clipped_surrogate(torch.tensor(ratios).log(), torch.tensor(advantages), 0.2)
    # min(r A, clip(r) A): 1.2, -1.5, 0.5, -0.8, 2.2
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8 + 2.2) / 5)
    assert slope.tolist() == pytest.approx([0, 1.5 / 5, -0.5 / 5, 0, -2.2 / 5])


def test_the_slope_of_the_surrogate_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    log_ratio = torch.randn(200, generator=generator, dtype=torch.float64).mul_(0.3).requires_grad_()
    loss, slope = clipped_surrogate(log_ratio, torch.randn(200, generator=generator, dtype=torch.float64), 0.2)
    assert torch.allclose(slope, slope_of(loss, log_ratio))


def test_values_may_go_far_from_the_old_ones_without_profit_only() -> None:
    values, old, returns = torch.tensor([3.0, 3.0, 0.1]), torch.zeros(3), torch.tensor([4.0, 1.0, 1.0])
    loss, slope = clipped_values(values, old, returns, 0.5)
    # (3 - 4)^2 < (.5 - 4)^2: no more to earn;  (3 - 1)^2 > (.5 - 1)^2: a fault;  within the range
    assert loss.item() == pytest.approx((12.25 + 4 + 0.81) / 3)
    assert slope.tolist() == pytest.approx([0, 4 / 3, -1.8 / 3])


@pytest.mark.parametrize("clip_range", [0.0, 0.3])
def test_the_slope_of_the_value_loss_is_that_of_autograd(clip_range: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values, old, returns = (torch.randn(200, generator=generator, dtype=torch.float64) for _ in range(3))
    values.requires_grad_()
    loss, slope = clipped_values(values, old, returns, clip_range)
    assert torch.allclose(slope, slope_of(loss, values))


def test_advantages_are_normalised_and_a_single_one_stays_as_it_is() -> None:
    assert normalised(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1, 0, 1])
    assert normalised(torch.tensor([7.0])).tolist() == [7]
    assert all(math.isfinite(x) for x in normalised(torch.tensor([2.0, 2.0])).tolist())
