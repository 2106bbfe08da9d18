"""Losses with their slopes.

Each function returns the loss, a mean over the batch, and its gradient by the predictions, which are simple enough
to be written beside each other. An error is prediction minus target.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared(error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of errors (B,), a 0-d tensor, and its slopes (B,)."""
    return error.square().mean(), error * (2 / len(error))


def huber(error: Tensor) -> tuple[Tensor, Tensor]:
    """Return Huber's loss (1964) of errors (B,), a 0-d tensor, and its slopes (B,): quadratic to 1, then linear."""
    clipped = error.clamp(-1, 1)
    return (clipped * (error - 0.5 * clipped)).mean(), clipped / len(error)


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
