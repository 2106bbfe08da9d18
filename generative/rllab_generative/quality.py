"""How good drawn items are: pure functions of features, pixels and classes.

None of them knows what made the features. The Frechet distance here is no FID: that name belongs to the features of one
Inception network, trained on photographs, and numbers in other features cannot be compared with it.

    frechet            ||m_a - m_b||^2 + tr(A + B - 2 (A B)^(1/2)), for means m and covariances A, B of features
    density            how many real neighbourhoods a drawn item lies in, as a share of those a real one would
    coverage           share of the real neighbourhoods that a drawn item lies in
    classes covered    classes that are drawn at least a tenth as often as they occur
    copied             share of drawn items that are nearer to one training item than new items ever are

Dowson & Landau, "The Frechet distance between multivariate normal distributions", J. Multivariate Analysis 12 (1982).
Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS 2017.
Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020 (density and coverage).
Meehan et al., "A non-parametric test to detect data-copying in generative models", AISTATS 2020.
Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize", ICML workshop 2023.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from rllab import stopping
from rllab.errors import UsageError

Items: TypeAlias = Tensor | np.ndarray

COVERED = 0.1
"""A class is covered if it is drawn at least so many times as often as it occurs in real data."""
COPIED = 0.01
"""Share of the held-out items that count as copied: what copying is measured against."""
_PER_DIMENSION = 5
_ROWS = 500
_TRAINING_ROWS = 4096

# --- enough of them -------------------------------------------------------------------------------


def needed(dimensions: int) -> int:
    """Return how many items it takes at least to fit a Gaussian to features of so many dimensions: 5 for each.

    With fewer, the covariance is mostly what chance made of it, and the distance is that of two accidents.
    """
    return _PER_DIMENSION * dimensions


def check_enough(number: int, dimensions: int, what: str) -> None:
    """Refuse to measure with too few items.

    Args:
        number: of the items.
        dimensions: of their features.
        what: they are called in the message, such as "drawn images".

    Raises:
        UsageError: if there are fewer than `needed`.
    """
    if number < needed(dimensions):
        raise UsageError(
            f"{number} {what} are too few for a Frechet distance in {dimensions} dimensions: it takes"
            f" {needed(dimensions)} at least, {_PER_DIMENSION} for each dimension"
        )


# --- in the space of features ---------------------------------------------------------------------


def frechet(a: Items, b: Items) -> float:
    """Return the squared Frechet distance between Gaussians fitted to two sets of features.

    (Dowson & Landau, 1982, eq. 4; Heusel et al., 2017, for its use.) The trace of (A B)^(1/2) is the sum of the
    singular values of A^(1/2) B^(1/2), all of them real and at least 0 by construction; a general matrix root would
    turn rounding into complex numbers. It is in the squared units of the features, 0 if means and covariances agree.
    With few items it is too large: compare only distances of equally many.

    Args:
        a: (n, d).
        b: (m, d).

    Raises:
        UsageError: if there are fewer than `needed(d)` items on a side, or a feature is not finite.
    """
    mean_a, root_a = _gaussian(a)
    mean_b, root_b = _gaussian(b)
    traces = root_a.square().sum() + root_b.square().sum()  # tr(A) = ||A^(1/2)||_F^2
    common = torch.linalg.svdvals(root_a @ root_b).sum()
    return max(float((mean_a - mean_b).square().sum() + traces - 2 * common), 0.0)


def _gaussian(features: Items) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) of features (n, d), and the symmetric root (d, d) of their covariance, in float64."""
    x = torch.as_tensor(features).detach().cpu().double()
    check_enough(len(x), x.shape[1], "items")
    if not bool(torch.isfinite(x).all()):
        raise UsageError("there are features that are NaN or infinite: no Gaussian can be fitted to them")
    mean = x.mean(0)
    centred = x - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(x) - 1))
    return mean, (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def density_coverage(real: Items, drawn: Items, k: int = 5) -> tuple[float, float]:
    """Return density and coverage (Naeem et al., 2020, eqs. 4 and 6).

    The neighbourhood of a real item is the ball around it whose radius is the distance to its k-th nearest other real
    item. Density is the mean number of neighbourhoods that a drawn item lies in, divided by k: near 1 for items of the
    same distribution, above it where they crowd in the middle of the real ones, near 0 for none. Coverage is the
    share of neighbourhoods with a drawn item in them: at most 1, and as expected 1 - 2^-k for equally many items of
    the same distribution, .969 for k = 5. It falls with fewer drawn items: compare it for equally many.

    Args:
        real: (m, d).
        drawn: (n, d).
        k: which neighbour gives the radius.

    Raises:
        UsageError: if there are not more than k real items, or none is drawn.
    """
    x, y = (torch.as_tensor(items).detach().cpu().float() for items in (real, drawn))
    if len(x) <= k or not len(y):
        raise UsageError(f"density and coverage with {k} neighbours take more than {k} real items and a drawn one")
    inside, covered = 0, 0
    for rows in torch.split(x, _ROWS):
        stopping.check()
        radius = _distances(rows, x).kthvalue(k + 1, dim=1, keepdim=True).values  # the nearest one is the item itself
        within = _distances(rows, y) < radius  # (rows, n)
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (k * len(y)), covered / len(x)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # by differences: from products, the distance of an item to itself would be rounding, and not 0
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


# --- classes --------------------------------------------------------------------------------------


def class_shares(classes: Tensor, number: int) -> Tensor:
    """Return the share of each class, (number,) float64, among the classes (n,) of items."""
    return torch.bincount(classes, minlength=number).double() / max(len(classes), 1)


def classes_covered(shares: Tensor, real: Tensor) -> int:
    """Return how many classes are covered: drawn at least a tenth (`COVERED`) as often as they occur.

    Args:
        shares: (k,), of the classes among drawn items.
        real: (k,), the same among real ones; classes that do not occur are not counted.
    """
    return int(((shares >= COVERED * real) & (real > 0)).sum())


# --- copying --------------------------------------------------------------------------------------


def nearest(items: Items, training: Items) -> Tensor:
    """Return the Euclidean distances of each item to its nearest and to its second nearest training item: (n, 2).

    Found by products, chunk by chunk, and then measured by differences, so that the distance to a copy is 0.

    Args:
        items: (n, ...), flattened here.
        training: (N, ...), at least two; bytes stand for 255ths of what they say.
    """
    x, y = torch.as_tensor(items), torch.as_tensor(training)
    y = y.to(x.device)
    queries = _flat(x)  # (n, d)
    best = torch.full((len(x), 2), float("inf"), device=x.device)
    found = torch.zeros((len(x), 2), dtype=torch.long, device=x.device)
    for start in range(0, len(y), _TRAINING_ROWS):
        stopping.check()
        chunk = _flat(y[start : start + _TRAINING_ROWS])  # (c, d)
        squares = chunk.square().sum(1)
        for rows in torch.split(torch.arange(len(x), device=x.device), _ROWS):
            # ||x - y||^2 - ||x||^2, which orders the y of an x just as well
            scores = torch.addmm(squares, queries[rows], chunk.T, alpha=-2)  # (r, c)
            top, at = scores.topk(min(2, len(chunk)), largest=False)
            both, both_at = torch.cat([best[rows], top], 1), torch.cat([found[rows], at + start], 1)
            best[rows], order = both.topk(2, largest=False)
            found[rows] = both_at.gather(1, order)
    pairs = [torch.linalg.vector_norm(queries - _flat(y[column]), dim=1) for column in found.T]
    return torch.stack(pairs, 1).sort(1).values.cpu()


def _flat(items: Tensor) -> Tensor:
    """Return items (n, ...) as float32 (n, d)."""
    return (items.float() / 255 if items.dtype is torch.uint8 else items.float()).flatten(1)


def copied(drawn: Tensor, held_out: Tensor) -> float:
    """Return the share of drawn items that are copies of a training item.

    A copy is much nearer to one training item than to any other. So the two distances of `nearest` are divided by
    each other, d1 / d2 (Yoon et al., 2023, call it memorised below 1/3), which does not depend on how crowded the
    place is: a smooth, typical image is near to many training images and copies none. Where copying begins, held-out
    items say, which copied nothing: at the first percentile of theirs. New items of the same distribution give .01
    by that, and copies 1.

    Args:
        drawn: (n, 2), of `nearest` to the training items.
        held_out: (m, 2), the same of items that were not trained on.
    """
    threshold = torch.quantile(_apartness(held_out), COPIED)
    return float((_apartness(drawn) <= threshold).double().mean())


def _apartness(distances: Tensor) -> Tensor:
    """Return d1 / d2; 0 where both are 0, as for a copy of an item that is twice in the data."""
    return (distances[:, 0] / distances[:, 1]).double().nan_to_num(nan=0.0)


def closeness(drawn: Tensor, held_out: Tensor) -> float:
    """Return the mean distance of drawn items to their nearest training item, in units of that of held-out items.

    1: as far as new items are. 0: copies. Below 1 also for blurred items, which are near to everything; above it for
    noisy ones.

    Args:
        drawn: (n, 2), of `nearest` to the training items.
        held_out: (m, 2), the same of items that were not trained on.
    """
    return float(drawn[:, 0].double().mean() / held_out[:, 0].double().mean().clamp(min=1e-12))
