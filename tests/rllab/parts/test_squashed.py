import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rllab.parts import squashed
from rllab.parts.squashed import LOG_STD, ActionBounds


def outputs(mean: float, std: float) -> torch.Tensor:
    return torch.tensor([[mean, math.log(std)]], dtype=torch.float64)


# --- densities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-2.0, 2.0), (0.0, 0.01)])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-2.0, 6.0), (0.0, 0.01)])
def test_the_density_integrates_to_one_over_the_actions_of_the_environment(
    mean: float, std: float, low: float, high: float
) -> None:
    scale, shift = (high - low) / 2, (high + low) / 2
    u = torch.linspace(mean - 9 * std, mean + 9 * std, 20_001, dtype=torch.float64)[:, None]
    actions = scale * torch.tanh(u) + shift
    density = squashed.log_prob(u, outputs(mean, std).expand(len(u), 2), scale).exp()
    assert torch.trapezoid(density, actions[:, 0]).item() == pytest.approx(1, abs=1e-4)


def test_the_density_is_that_of_a_histogram_of_actions() -> None:
    """Brute force: 400,000 samples, the share of them in each of 8 equal parts of the interval."""
    n, scale = 400_000, 3.0
    noise = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actions = squashed.sample(outputs(0.4, 0.7).expand(n, 2), noise).actions
    shares = torch.histc(scale * actions, 8, -scale, scale) / n
    edges = torch.linspace(-1, 1, 8 * 400 + 1, dtype=torch.float64).clamp(-1 + 1e-9, 1 - 1e-9)
    u = torch.atanh(edges)[:, None]
    density = squashed.log_prob(u, outputs(0.4, 0.7).expand(len(u), 2), scale).exp()
    parts = torch.stack(
        [torch.trapezoid(density[i : i + 401], scale * edges[i : i + 401]) for i in range(0, 3200, 400)]
    )
    torch.testing.assert_close(shares, parts, atol=3e-3, rtol=0)


def test_a_sample_comes_with_the_log_probability_of_its_action() -> None:
    """By the change of variables: log N(u) - log |da/du| with a = scale * tanh(u), summed over two dimensions."""
    outs = torch.tensor([[0.3, -0.5, -1.0, 0.2], [1.0, 2.0, 0.0, -3.0]], dtype=torch.float64)
    noise = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=torch.float64)
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
    actions, log_probs, *_ = squashed.sample(outs, noise, scale)
    mean, log_std = outs.chunk(2, 1)
    u = mean + log_std.exp() * noise
    slope = torch.autograd.functional.jacobian(lambda v: (scale * torch.tanh(v)).sum(), u)
    expected = (torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - slope.abs().log()).sum(1)
    torch.testing.assert_close(actions, torch.tanh(u))
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(squashed.log_prob(u, outs, scale), expected)
    assert log_probs.shape == (2,)


def test_wider_bounds_lower_the_density_by_their_width() -> None:
    noise = torch.tensor([[0.5, -1.0]])
    outs = torch.zeros(1, 4)
    unit, wide = squashed.sample(outs, noise).log_probs, squashed.sample(outs, noise, 10.0).log_probs
    assert (unit - wide).item() == pytest.approx(2 * math.log(10))


@pytest.mark.parametrize("u", [-60.0, -12.0, 12.0, 60.0])
def test_far_out_the_log_probability_is_finite_and_has_the_right_slope(u: float) -> None:
    """There 1 - tanh(u)^2 = 4 exp(-2 |u|), which float32 rounds to 0: log p = log N + 2 |u| - log 4."""
    outs = torch.tensor([[u, 0.0]])
    drawn = squashed.sample(outs, torch.zeros(1, 1))
    assert abs(drawn.actions.item()) == 1
    assert drawn.log_probs.item() == pytest.approx(-0.5 * math.log(2 * math.pi) + 2 * abs(u) - math.log(4), rel=1e-6)
    slope = drawn.gradient(torch.zeros(1, 1), 1.0)
    assert slope[0, 0].item() == pytest.approx(2 * math.copysign(1, u))


def test_the_written_out_gradient_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    outs = (torch.randn(50, 6, dtype=torch.float64) * 3).requires_grad_()
    noise, by_actions = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    by_log_probs = torch.randn(50, dtype=torch.float64)
    mean, log_std = outs.chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD)
    assert not torch.equal(log_std, outs[:, 3:])  # some are cut
    u = mean + log_std.exp() * noise
    log_probs = (torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - torch.log(1 - torch.tanh(u) ** 2)).sum(1)
    ordinary = log_probs.detach().isfinite() & (log_probs.detach().abs() < 20)
    loss = (torch.tanh(u) * by_actions).sum(1) + log_probs * by_log_probs
    (expected,) = torch.autograd.grad(loss[ordinary].sum(), outs)
    assert ordinary.sum() > 30
    found = squashed.sample(outs.detach(), noise).gradient(by_actions, by_log_probs[:, None])
    torch.testing.assert_close(found[ordinary], expected[ordinary], rtol=1e-5, atol=1e-7)
    given = [part.detach().numpy() for part in (outs, noise, by_actions, by_log_probs[:, None])]
    drawn = squashed.sample(given[0], given[1])
    np.testing.assert_allclose(drawn.log_probs[ordinary], log_probs.detach()[ordinary], rtol=1e-5)
    np.testing.assert_allclose(drawn.gradient(*given[2:])[ordinary], expected[ordinary], rtol=1e-5, atol=1e-7)


def test_acting_in_numpy_gives_the_same_actions() -> None:
    outs, noise = torch.tensor([[0.3, -0.5, -1.0, 5.0]]), torch.tensor([[0.5, -0.1]])
    np.testing.assert_allclose(
        squashed.act(outs.numpy(), noise.numpy()), squashed.sample(outs, noise).actions, rtol=1e-6
    )
    np.testing.assert_allclose(squashed.mode(outs.numpy()), np.tanh([[0.3, -0.5]]), rtol=1e-6)


# --- scaling ------------------------------------------------------------------------------------------------


def test_actions_are_scaled_between_asymmetric_bounds_and_back() -> None:
    bounds = ActionBounds(spaces.Box(np.array([-2, 0], np.float32), np.array([6, 1], np.float32)))
    found = bounds.from_unit(np.array([[-1, -1], [0, 0], [1, 0.5]], np.float32))
    assert found.tolist() == [[-2, 0], [2, 0.5], [6, 0.75]]
    assert found.dtype == np.float32
    assert bounds.to_unit(found).tolist() == [[-1, -1], [0, 0], [1, 0.5]]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaled_actions_are_in_the_space_also_at_its_very_edge(shape: tuple[int, ...], dtype: type) -> None:
    space = spaces.Box(-0.1, 0.7, shape, dtype)
    bounds = ActionBounds(space)
    for value in (-1, 1, 0.999999):
        for action in bounds.from_unit(np.full((2, bounds.size), value, np.float32)):
            assert space.contains(np.asarray(action))


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Discrete(2), "it takes Box actions, not Discrete"),
        (spaces.Box(0, 5, (2,), np.int32), "it takes Box actions of floats, not of int32"),
        (spaces.Box(-np.inf, np.inf, (2,)), r"an action bound is infinite: number 0 lies in \[-inf, inf\]; reinforce"),
        (spaces.Box(np.zeros(2, np.float32), np.array([1, np.inf], np.float32)), r"number 1 lies in \[0.0, inf\]"),
        (spaces.Box(-1, float(np.finfo(np.float32).max), (1,)), "an action bound is infinite"),
    ],
)
def test_spaces_that_cannot_be_scaled_are_refused(space: spaces.Space, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ActionBounds(space)
