"""Losses with their slopes.

Each function returns the loss, a mean over the batch, and its gradient by the predictions, which are simple enough
to be written beside each other. An error is prediction minus target; tensors of errors may also be arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rllab.parts.arrays import Numbers


def squared(error: Numbers, weights: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Return the mean squared error of errors (B,), a 0-d tensor, and its slopes (B,); `weights` (B,) for each."""
    return _weighted(error * error, error * (2 / len(error)), weights)


def huber(error: Numbers, weights: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Return Huber's loss (1964), quadratic to 1, then linear, of errors (B,), a 0-d tensor, and its slopes (B,).

    `weights` (B,) say how much each counts.
    """
    clipped = error.clip(-1, 1)
    return _weighted(clipped * (error - 0.5 * clipped), clipped / len(error), weights)


def _weighted(losses: Numbers, slopes: Numbers, weights: Numbers | None) -> tuple[Numbers, Numbers]:
    if weights is not None:
        losses, slopes = weights * losses, weights * slopes
    return float(losses.sum()) / len(losses) if isinstance(losses, np.ndarray) else losses.mean(), slopes


LOSSES = {"squared": squared, "huber": huber}
"""Losses of an error."""


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of -log p(target), a 0-d tensor, and its gradient by the logits, (softmax - one-hot) / B.

    Args:
        logits: (B, classes), of which the softmax is p.
        targets: (B,), numbers of classes.
    """
    log_p = torch.log_softmax(logits, 1)  # (B, classes)
    loss = torch.nn.functional.nll_loss(log_p, targets)
    gradient = log_p.exp_()
    right = targets[:, None]
    gradient.scatter_(1, right, gradient.gather(1, right) - 1)
    return loss, gradient.div_(len(targets))
