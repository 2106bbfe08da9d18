"""What NumPy's arrays and torch's tensors spell differently, spelled once.

Arithmetic, slices, `argmax` and the like are written alike for both. So a method's page that keeps to these is right
for tensors on any device, and for arrays on the CPU, where a small operation takes torch several times as long.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Numbers: TypeAlias = Any
"""An array or a tensor; a function that is given arrays returns arrays."""


def highest(values: Numbers) -> Numbers:
    """Return the highest value of each row, (B,), of (B, n)."""
    return values.max(1) if isinstance(values, np.ndarray) else values.amax(1)


def pick(values: Numbers, columns: Numbers) -> Numbers:
    """Return the value in one column of each row, (B,), of values (B, n) and columns (B,)."""
    if isinstance(values, np.ndarray):
        return values[np.arange(len(columns)), columns]
    return values.gather(1, columns[:, None]).squeeze(1)


def place(numbers: Numbers, columns: Numbers, like: Numbers) -> Numbers:
    """Return what has one number in each row, in its column, and 0 elsewhere: (B, n) like `like`.

    Args:
        numbers: (B,)
        columns: (B,)
        like: (B, n)
    """
    if isinstance(like, np.ndarray):
        placed = np.zeros_like(like)
        placed[np.arange(len(columns)), columns] = numbers
        return placed
    return torch.zeros_like(like).scatter_(1, columns[:, None], numbers[:, None])


def joined(parts: list[Numbers]) -> Numbers:
    """Return rows of several parts one after the other; a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)


def alike(tensor: Tensor, other: Numbers) -> Numbers:
    """Return a tensor; as an array of the same memory if `other` is an array."""
    return tensor.numpy() if isinstance(other, np.ndarray) else tensor


def as_array(numbers: Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor as an array, on the CPU of the same memory."""
    return numbers if isinstance(numbers, np.ndarray) else numbers.numpy(force=True)
