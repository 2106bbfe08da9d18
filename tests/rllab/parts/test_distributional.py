import math

import numpy as np
import pytest
import torch

from rllab.parts.distributional import categorical_loss, entropy, midpoints, project, quantile_huber

# --- the projection -----------------------------------------------------------------------------------------


def projected(p: list[float], reward: float, discount: float, atoms: list[float]) -> list[float]:
    numbers = (torch.tensor(part, dtype=torch.float32) for part in ([p], [reward], [discount], atoms))
    result: list[float] = project(*numbers)[0].tolist()
    return result


def test_an_atom_between_two_is_shared_by_how_near_they_are() -> None:
    """From 1 by 0.5 + 0.5 * 1 = 1 to an atom; from 2 by 0.5 + 0.5 * 2 = 1.5 to the middle of 1 and 2."""
    assert projected([0, 1, 0], 0.5, 0.5, [0, 1, 2]) == [0, 1, 0]
    assert projected([0, 0, 1], 0.5, 0.5, [0, 1, 2]) == [0, 0.5, 0.5]
    assert projected([1, 0, 0], 0.25, 0.5, [0, 1, 2]) == [0.75, 0.25, 0]


def test_what_lies_outside_is_cut_to_the_ends() -> None:
    assert projected([0.5, 0, 0.5], 10.0, 0.9, [0, 1, 2]) == [0, 0, 1]
    assert projected([0.5, 0, 0.5], -10.0, 0.9, [0, 1, 2]) == [1, 0, 0]


def test_a_terminal_state_leaves_the_reward_alone() -> None:
    assert projected([0.2, 0.3, 0.5], 1.25, 0.0, [0, 1, 2]) == pytest.approx([0, 0.75, 0.25])


def test_nothing_happens_without_reward_and_discount() -> None:
    p = [0.1, 0.2, 0.3, 0.4]
    assert projected(p, 0.0, 1.0, [-1.5, -0.5, 0.5, 1.5]) == pytest.approx(p)


@pytest.mark.parametrize("atoms", [2, 11, 51])
def test_the_projection_is_that_of_the_papers_loop(atoms: int) -> None:
    """Algorithm 1, atom by atom, in double precision."""
    rng = np.random.default_rng(atoms)
    low, high, batch = -3.0, 5.0, 64
    z = np.linspace(low, high, atoms)
    gap = z[1] - z[0]
    p = rng.dirichlet(np.ones(atoms), batch)
    rewards, discounts = rng.normal(0, 4, batch), rng.choice([0.0, 0.9, 0.99**3, 1.0], batch)
    rewards[: batch // 4] = np.round(rewards[: batch // 4])
    expected = np.zeros((batch, atoms))
    for row in range(batch):
        for j in range(atoms):
            moved = min(max(rewards[row] + discounts[row] * z[j], low), high)
            place = (moved - low) / gap
            for i in range(atoms):
                expected[row, i] += p[row, j] * max(0.0, 1 - abs(place - i))
    got = project(*(torch.from_numpy(part).float() for part in (p, rewards, discounts, z)))
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)


def test_the_mean_is_kept_where_nothing_is_cut() -> None:
    z = torch.linspace(-10, 10, 51)
    p = torch.softmax(torch.randn(32, 51, generator=torch.Generator().manual_seed(0)), 1)
    rewards, discounts = torch.linspace(-1, 1, 32), torch.full((32,), 0.5)
    torch.testing.assert_close(project(p, rewards, discounts, z) @ z, rewards + 0.5 * (p @ z))


# --- the categorical loss -----------------------------------------------------------------------------------


def test_the_cross_entropy_by_hand() -> None:
    """p = (1/4, 3/4): -log(1/4) if the target is the first; p - target is (-3/4, 3/4), over two rows."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    losses, gradient = categorical_loss(logits, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))
    assert losses.tolist() == pytest.approx([math.log(4), 0.25 * math.log(4) + 0.75 * math.log(4 / 3)])
    assert gradient.flatten().tolist() == pytest.approx([-0.375, 0.375, 0, 0], abs=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradients_of_both_losses_are_autograds(weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(16, 9, generator=generator, requires_grad=True)
    p = torch.softmax(torch.randn(16, 9, generator=generator), 1)
    y = torch.randn(16, 7, generator=generator) * 3
    weights = torch.rand(16, generator=generator) if weighted else None
    for losses, gradient in (categorical_loss(outputs, p, weights), quantile_huber(outputs, y, midpoints(9), weights)):
        mean = (losses if weights is None else weights * losses).mean()
        (expected,) = torch.autograd.grad(mean, outputs, retain_graph=True)
        torch.testing.assert_close(gradient, expected)


def test_the_entropy_of_certainty_and_of_a_coin() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert entropy(p).tolist() == pytest.approx([0, math.log(2)])


def test_the_cross_entropy_less_the_entropy_is_the_divergence_of_kullback_and_leibler() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(8, 5, generator=generator)
    p = torch.softmax(torch.randn(8, 5, generator=generator), 1)
    losses, _ = categorical_loss(logits, p)
    expected = torch.nn.functional.kl_div(torch.log_softmax(logits, 1), p, reduction="none").sum(1)
    torch.testing.assert_close(losses - entropy(p), expected)


# --- quantiles ----------------------------------------------------------------------------------------------


def test_midpoints_by_hand() -> None:
    assert midpoints(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert midpoints(1).tolist() == [0.5]


def test_the_quantile_loss_by_hand() -> None:
    """One quantile, tau = 1/2: half of Huber's loss. An error of 3 costs 2.5 / 2; its slope is -1/2."""
    losses, slopes = quantile_huber(torch.tensor([[1.0]]), torch.tensor([[4.0]]), midpoints(1))
    assert (losses.item(), slopes.item()) == (1.25, -0.5)
    # tau = 1/4 and 3/4, both at 0; the target 0.5 lies above: tau * 0.125 each
    losses, slopes = quantile_huber(torch.zeros(1, 2), torch.tensor([[0.5]]), midpoints(2))
    assert losses.item() == pytest.approx(0.25 * 0.125 + 0.75 * 0.125)
    assert slopes.tolist() == [[-0.125, -0.375]]
    # below: 1 - tau
    losses, slopes = quantile_huber(torch.zeros(1, 2), torch.tensor([[-0.5]]), midpoints(2))
    assert slopes.tolist() == [[0.375, 0.125]]


def test_the_loss_is_a_sum_over_quantiles_of_the_mean_over_targets() -> None:
    """Equation 10, by two loops, in double precision."""
    rng = np.random.default_rng(0)
    theta, y = rng.normal(size=(6, 5)) * 2, rng.normal(size=(6, 8)) * 2
    expected = np.zeros(6)
    for row in range(6):
        for i in range(5):
            tau = (2 * (i + 1) - 1) / 10
            for j in range(8):
                u = y[row, j] - theta[row, i]
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                expected[row] += abs(tau - (1 if u < 0 else 0)) * huber / 8
    losses, _ = quantile_huber(torch.from_numpy(theta).float(), torch.from_numpy(y).float(), midpoints(5))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_descending_the_loss_finds_the_quantiles() -> None:
    """Of the whole numbers 0 to 99, far apart compared with 1, where Huber's loss is nearly that of quantiles."""
    y = torch.arange(100.0)[None]
    theta = torch.full((1, 4), 50.0)
    for _ in range(4000):
        theta -= 0.5 * quantile_huber(theta, y, midpoints(4))[1]
    assert theta.tolist() == [pytest.approx([12.0, 37.0, 62.0, 87.0], abs=1)]
