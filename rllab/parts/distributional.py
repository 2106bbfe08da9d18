"""Distributions of returns: the projection onto fixed atoms (C51), and the loss of quantiles (QR-DQN).

Losses are returned with their gradients by what the network gives, which are short enough to stand beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def project(probabilities: Tensor, rewards: Tensor, discounts: Tensor, atoms: Tensor) -> Tensor:
    """Return the distribution of r + discount * Z on the atoms of Z (Bellemare et al., 2017, Algorithm 1).

    Each atom z_j moves to r + discount * z_j, is cut to the ends of the support, and its probability is shared
    between the two atoms that are nearest, the nearer getting more: the share is 1 - distance / gap.

    Args:
        probabilities: (B, N), of Z.
        rewards: (B,).
        discounts: (B,); 0 where the state after is terminal.
        atoms: (N,), evenly spaced and rising.

    Returns:
        (B, N), of which each row sums up to 1.
    """
    low, gap = atoms[0], (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    moved = rewards[:, None] + discounts[:, None] * atoms  # (B, N)
    place = ((moved - low) / gap).clamp(0, len(atoms) - 1)  # (B, N), counted in atoms
    below = place.floor()
    above_share = (place - below) * probabilities
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(1, below.long(), probabilities - above_share)
    projected.scatter_add_(1, place.ceil().long(), above_share)  # 0 for a place that is an atom
    return projected


def categorical_loss(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return how far a distribution is from its target, and the gradient of the mean loss.

    The loss of a row is the cross-entropy - sum of target * log p, whose gradient by the logits is p - target.

    Args:
        logits: (B, N), of which the softmax is p.
        target: (B, N).
        weights: (B,), how much each row counts; all the same if None.

    Returns:
        The losses of the rows (B,), and the gradient of mean(weights * losses) by the logits (B, N).
    """
    log_p = torch.log_softmax(logits, 1)  # (B, N)
    losses = -(target * log_p).sum(1)  # (B,)
    return losses, _mean_gradient(log_p.exp() - target, weights)


def entropy(probabilities: Tensor) -> Tensor:
    """Return -sum of p log p in each row of (B, N), with 0 log 0 = 0."""
    sums: Tensor = torch.special.entr(probabilities).sum(1)
    return sums


def midpoints(number: int) -> Tensor:
    """Return the shares (number,) whose quantiles are estimated: (2 i - 1) / (2 N) (Dabney et al., 2018, Lemma 2)."""
    return (torch.arange(number) + 0.5) / number


def quantile_huber(
    quantiles: Tensor, target: Tensor, shares: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the quantile Huber loss with kappa = 1 (Dabney et al., 2018, equations 9 and 10), and its gradient.

        loss = sum over i of the mean over j of |tau_i - 1{u_ij < 0}| L(u_ij),  u_ij = target_j - quantile_i

    where L is Huber's loss, u^2 / 2 up to |u| = 1 and |u| - 1/2 beyond.

    Args:
        quantiles: (B, N), estimates.
        target: (B, M), samples of what they estimate.
        shares: (N,), tau.
        weights: (B,), how much each row counts; all the same if None.

    Returns:
        The losses of the rows (B,), and the gradient of mean(weights * losses) by the quantiles (B, N).
    """
    u = target[:, None, :] - quantiles[:, :, None]  # (B, N, M)
    slope = u.clamp(-1, 1)
    tilt = (shares[:, None] - (u < 0).float()).abs()  # (B, N, M)
    losses = (tilt * slope * (u - 0.5 * slope)).mean(2).sum(1)  # (B,)
    return losses, _mean_gradient(-(tilt * slope).mean(2), weights)


def _mean_gradient(gradients: Tensor, weights: Tensor | None) -> Tensor:
    """Return the gradient of the mean over a batch from those of its rows, (B, N)."""
    return (gradients if weights is None else weights[:, None] * gradients) / len(gradients)
