"""Measures of quality, on items for which one knows the answer."""

import math

import numpy as np
import pytest
import torch
from rllab_generative.quality import (
    class_shares,
    classes_covered,
    closeness,
    copied,
    density_coverage,
    frechet,
    nearest,
    needed,
)
from torch import Tensor

from rllab.errors import UsageError


def gaussian(mean: list[float], deviations: list[float], n: int = 200_000, seed: int = 0) -> Tensor:
    drawn = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(mean) + torch.tensor(deviations) * drawn


def exactly(mean: Tensor, covariance: Tensor, n: int = 100) -> Tensor:
    """Return n items whose mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False)
    return mean + (torch.linalg.cholesky(covariance) @ whitened).T


# --- Frechet distance ---------------------------------------------------------------------------------------


def test_frechet_of_diagonal_gaussians_is_the_sum_of_squared_differences_of_means_and_deviations() -> None:
    a = exactly(torch.tensor([0.0, 1.0, -2.0]).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double())
    b = exactly(torch.tensor([3.0, 1.0, -1.0]).double(), torch.diag(torch.tensor([4.0, 4.0, 0.25])).double())
    assert frechet(a, b) == pytest.approx((9 + 0 + 1) + (1 + 0 + 2.5**2))


def test_frechet_of_samples_comes_near_that_of_their_distributions() -> None:
    a, b = gaussian([0, 0], [1, 2]), gaussian([1, 0], [3, 2], seed=1)
    assert frechet(a, b) == pytest.approx(1 + 4, rel=0.02)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    # for 2 x 2 matrices tr (A B)^(1/2) = sqrt(tr A B + 2 sqrt(det A B)), by Cayley and Hamilton
    A, B = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double(), torch.tensor([[1.0, -0.5], [-0.5, 0.5]]).double()
    root = math.sqrt(float((A @ B).trace()) + 2 * math.sqrt(float(torch.linalg.det(A @ B))))
    zero = torch.zeros(2).double()
    assert frechet(exactly(zero, A), exactly(zero, B)) == pytest.approx(float((A + B).trace()) - 2 * root)


def test_frechet_is_zero_for_the_same_items_and_the_same_in_both_directions() -> None:
    a, b = gaussian([0, 1, 2], [1, 2, 3], 500), gaussian([1, 1, 1], [2, 2, 2], 500, seed=1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a))


def test_frechet_bears_features_that_never_change() -> None:
    a = torch.cat([gaussian([0], [1], 500), torch.zeros(500, 3)], 1)  # rank 1 in 4 dimensions
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + torch.tensor([0.0, 2.0, 0.0, 0.0])) == pytest.approx(4)


def test_frechet_takes_arrays_and_computes_in_float64() -> None:
    # in float32 the variance of what lies around 1e4 would be lost
    a = np.asarray(gaussian([1e4], [1e-2], 5000), np.float64)
    b = np.asarray(gaussian([1e4], [3e-2], 5000), np.float64)
    assert frechet(a, b) == pytest.approx(4e-4, rel=0.05)


def test_too_few_items_are_refused_with_how_many_it_takes() -> None:
    assert needed(64) == 320
    enough, few = torch.randn(320, 64), torch.randn(319, 64)
    frechet(enough, enough)
    for pair in ((few, enough), (enough, few)):
        with pytest.raises(UsageError, match=r"319 items are too few.*320"):
            frechet(*pair)


def test_features_that_are_not_finite_are_refused() -> None:
    a = torch.randn(20, 2)
    a[3, 1] = float("nan")
    with pytest.raises(UsageError, match="NaN"):
        frechet(a, torch.randn(20, 2))


# --- density and coverage -----------------------------------------------------------------------------------


def test_density_and_coverage_of_points_on_a_line() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    # k = 1: the radii are 1, 1, 2 and 7; the balls (-1, 1), (0, 2), (1, 5), (3, 17)
    drawn = torch.tensor([[0.5], [4.0], [100.0]])
    # 0.5 lies in the first two, 4 in the last two, 100 in none
    density, coverage = density_coverage(real, drawn, k=1)
    assert density == pytest.approx(4 / 3)
    assert coverage == 1
    assert density_coverage(real, drawn[:1], k=1) == (2.0, 0.5)
    # k = 2: the radii are 3, 2, 3 and 9; 0.5 lies in (-3, 3), (-1, 3), (0, 6), not in (1, 19)
    assert density_coverage(real, drawn[:1], k=2) == (1.5, 0.75)


def test_density_and_coverage_of_the_same_distribution_are_as_expected() -> None:
    real, drawn = gaussian([0] * 8, [1] * 8, 2000), gaussian([0] * 8, [1] * 8, 2000, seed=1)
    density, coverage = density_coverage(real, drawn)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_coverage_falls_and_density_does_not_where_modes_are_missing() -> None:
    real = torch.cat([gaussian([0, 0], [1, 1], 500), gaussian([50, 0], [1, 1], 500, seed=1)])
    density, coverage = density_coverage(real, gaussian([0, 0], [1, 1], 1000, seed=2))
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(0.5, abs=0.02)


def test_density_and_coverage_take_more_than_k_items() -> None:
    with pytest.raises(UsageError, match="more than 5"):
        density_coverage(torch.zeros(5, 2), torch.zeros(9, 2))


# --- classes ------------------------------------------------------------------------------------------------


def test_class_shares_are_counted() -> None:
    assert class_shares(torch.tensor([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def test_a_class_is_covered_from_a_tenth_of_its_real_share_on() -> None:
    real = torch.tensor([0.5, 0.3, 0.2, 0.0]).double()
    assert classes_covered(torch.tensor([0.948, 0.031, 0.021, 0.0]).double(), real) == 3
    assert classes_covered(torch.tensor([0.952, 0.029, 0.019, 0.0]).double(), real) == 1


# --- copying ------------------------------------------------------------------------------------------------


def test_nearest_finds_the_two_nearest_of_many() -> None:
    generator = torch.Generator().manual_seed(0)
    items, training = (torch.rand(n, 1, 3, 3, generator=generator) for n in (600, 5000))  # more than a chunk of each
    training[4500] = items[7]
    training[20] = items[8]
    training[4200] = items[8]
    found = nearest(items, training)
    every = torch.cdist(items.flatten(1), training.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(found, every.topk(2, largest=False).values)
    assert found[7, 0] == 0 < found[7, 1]
    assert found[8].tolist() == [0, 0]


def test_bytes_are_255ths() -> None:
    training = torch.tensor([[0, 0], [255, 255], [51, 0]], dtype=torch.uint8)
    assert nearest(torch.tensor([[0.2, 0.0]]), training).tolist() == [[0, pytest.approx(0.2)]]


def test_copies_are_told_from_new_items_and_smooth_ones_are_none() -> None:
    generator = torch.Generator().manual_seed(0)
    training, held_out, new = torch.randn(3, 2000, 20, generator=generator)
    reference = nearest(held_out, training)
    assert copied(reference, reference) == pytest.approx(0.01)
    assert copied(nearest(new, training), reference) == pytest.approx(0.01, abs=0.01)
    assert copied(nearest(training, training), reference) == 1
    assert copied(nearest(training + 0.1 * new, training), reference) > 0.99  # hardly disguised
    smooth = nearest(0.3 * new, training)  # near the mean: closer to the training items than new ones are
    assert copied(smooth, reference) <= 0.01
    assert closeness(smooth, reference) < 0.95


def test_closeness_is_in_units_of_new_items() -> None:
    held_out = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert closeness(held_out, held_out) == 1
    assert closeness(torch.zeros(5, 2), held_out) == 0
    assert closeness(torch.tensor([[5.0, 6.0]]), held_out) == 2.5
