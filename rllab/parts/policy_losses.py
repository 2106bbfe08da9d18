"""Losses of policies and of their critics, with their slopes.

Each function returns the loss, a mean over the batch, and its gradient by the first argument, (B,); what a
distribution makes of that is the gradient by the outputs of the policy network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rllab.parts.losses import squared


def policy_gradient(log_probs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return -mean of w log pi(a|s) (Williams, 1992), a 0-d tensor, and its slopes (B,).

    Args:
        log_probs: (B,), log pi(a|s).
        weights: (B,), returns or advantages.
    """
    return -(weights * log_probs).mean(), weights / -len(weights)


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """Return -mean of min(r A, clip(r, 1 - e, 1 + e) A) (Schulman et al., 2017, equation 7), and its slopes (B,).

    The slope is that of r A, which is r A as r is an exponential, and 0 where the clipped term is the lower one.

    Args:
        log_ratio: (B,), log r = log pi(a|s) - log pi_old(a|s).
        advantages: (B,), A.
        clip_range: e.
    """
    ratio = log_ratio.exp()
    gain = ratio * advantages
    least = torch.minimum(gain, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
    return -least.mean(), (gain == least) * gain / -len(gain)


def clipped_values(values: Tensor, old: Tensor, returns: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """Return the mean of the larger one of (V - R)^2 and (V' - R)^2, and its slopes (B,).

    V' is V, not farther from its old value than `clip_range` (Schulman's implementation of PPO; Engstrom et al., 2020,
    section 3): going farther earns nothing more.

    Args:
        values: (B,), V(s).
        old: (B,), V_old(s).
        returns: (B,), R.
        clip_range: how far V may move; 0 for any distance.
    """
    loss, slope = squared(values - returns)
    if not clip_range:
        return loss, slope
    error = (values - returns).square()
    near = (old + (values - old).clamp(-clip_range, clip_range) - returns).square()
    return torch.maximum(error, near).mean(), slope * (near <= error)


def normalised(advantages: Tensor) -> Tensor:
    """Return advantages (B,) with mean 0 and variance 1; a single one, which has no variance, as it is."""
    if len(advantages) < 2:
        return advantages
    deviation, mean = torch.std_mean(advantages)
    return (advantages - mean) / (deviation + 1e-8)
