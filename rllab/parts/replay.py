"""Experience replay (Lin, 1992): the last transitions, sampled uniformly with replacement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions on the device, `B` of them."""

    observations: Tensor
    """(B, *observation)"""
    actions: Tensor
    """(B, *action)"""
    rewards: Tensor
    """(B,) float32"""
    next_observations: Tensor
    """(B, *observation); where an episode ended, its true final observation"""
    terminated: Tensor
    """(B,) float32: 1 where the state after is terminal and has the value 0; a time limit is no such end"""

    def split(self, size: int) -> Iterator[Batch]:
        """Go through batches of `size` transitions; they are views of this one."""
        if len(self.rewards) <= size:
            return iter([self])
        return map(Batch._make, zip(*(torch.split(tensor, size) for tensor in self), strict=True))


class ReplayBuffer:
    """A ring of transitions in preallocated arrays on the host.

    Args:
        size: transitions it holds; the oldest is overwritten.
        observation_shape: of one observation.
        observation_dtype: of one observation.
        action_shape: of one action, () for a number.
        action_dtype: of one action.
        device: where batches go.
    """

    def __init__(
        self,
        size: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        action_shape: tuple[int, ...] = (),
        action_dtype: Any = np.int64,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size = size
        self.device = torch.device(device)
        self._arrays = {
            "observations": np.empty((size, *observation_shape), observation_dtype),
            "actions": np.empty((size, *action_shape), action_dtype),
            "rewards": np.empty(size, np.float32),
            "next_observations": np.empty((size, *observation_shape), observation_dtype),
            "terminated": np.empty(size, np.float32),
        }
        # the same memory, for torch to index
        self._tensors = [torch.from_numpy(array) for array in self._arrays.values()]
        self._next = 0
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def add(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
    ) -> None:
        """Add `n` transitions, one a row of each array."""
        n = len(rewards)
        rows: Any = slice(self._next, self._next + n)
        if self._next + n > self.size:
            rows = np.arange(self._next, self._next + n) % self.size
        values = (observations, actions, rewards, next_observations, terminated)
        for array, value in zip(self._arrays.values(), values, strict=True):
            array[rows] = value
        self._next = (self._next + n) % self.size
        self._filled = min(self._filled + n, self.size)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Return `batch_size` transitions drawn with replacement."""
        rows = torch.from_numpy(rng.integers(self._filled, size=batch_size))
        return Batch(*(tensor.index_select(0, rows).to(self.device) for tensor in self._tensors))

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part of the arrays (not copied) and the place of the next transition."""
        filled = {name: array[: self._filled] for name, array in self._arrays.items()}
        return {"next": self._next, "filled": self._filled, **filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill the arrays from a state of a buffer of the same size."""
        self._next, self._filled = state["next"], state["filled"]
        for name, array in self._arrays.items():
            array[: self._filled] = state[name]
