"""Losses of an error, with their slopes.

An error is prediction minus target. Each function returns the loss, a mean over the batch, and its gradient by
the predictions, which are simple enough to be written beside each other.
"""

from __future__ import annotations

from torch import Tensor


def squared(error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of errors (B,), a 0-d tensor, and its slopes (B,)."""
    return error.square().mean(), error * (2 / len(error))


def huber(error: Tensor) -> tuple[Tensor, Tensor]:
    """Return Huber's loss (1964) of errors (B,), a 0-d tensor, and its slopes (B,): quadratic to 1, then linear."""
    clipped = error.clamp(-1, 1)
    return (clipped * (error - 0.5 * clipped)).mean(), clipped / len(error)


LOSSES = {"squared": squared, "huber": huber}
