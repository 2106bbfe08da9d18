"""Experience replay (Lin, 1992): the last transitions, sampled uniformly with replacement.

With several steps in a transition (Watkins, 1989) its reward is the discounted sum of those on the way, and what comes
next is where that way ends. It ends with the episode, and at the newest transition, from which it is not known yet how
to go on:

    R = sum over i < k of gamma^i r_(t+i),  s' = s_(t+k),  discount = gamma^k, and 0 where s' is terminal,  k <= n_step
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
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
    """(B,) float32; of several steps, their discounted sum"""
    next_observations: Tensor
    """(B, *observation); where an episode ended, its true final observation"""
    terminated: Tensor
    """(B,) float32: 1 where the state after is terminal and has the value 0; a time limit is no such end"""
    steps: Tensor | None = None
    """(B,) float32: how many steps a transition has; None if all have one"""
    weights: Tensor | None = None
    """(B,) float32: importance of each in the loss; None if all count the same"""
    rows: Tensor | None = None
    """(B,) on the host: their places in a buffer that wants to know how large their errors were"""

    def discounts(self, gamma: float) -> Tensor:
        """Return how much of the value after counts, (B,): gamma for each step, and 0 after the end."""
        discount = gamma if self.steps is None else gamma**self.steps
        return discount * (1 - self.terminated)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch._make(None if part is None else part.to(device) for part in self)

    def numpy(self) -> Batch:
        """Return the batch as arrays; on the CPU of the same memory."""
        return Batch._make(None if part is None else part.numpy(force=True) for part in self)

    def split(self, size: int) -> Iterator[Batch]:
        """Go through batches of `size` transitions; they are views of this one."""
        if len(self.rewards) <= size:
            return iter([self])
        starts = range(0, len(self.rewards), size)
        parts: list[Any] = [repeat(None) if part is None else [part[i : i + size] for i in starts] for part in self]
        return map(Batch._make, zip(*parts, strict=False))


class ReplayBuffer:
    """A ring of transitions in preallocated arrays on the host.

    Args:
        size: transitions it holds; the oldest is overwritten.
        observation_shape: of one observation.
        observation_dtype: of one observation.
        action_shape: of one action, () for a number.
        action_dtype: of one action.
        n_step: steps of a transition that is sampled, at most.
        gamma: discount of rewards within it.
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
        n_step: int = 1,
        gamma: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size = size
        self.n_step = n_step
        self.gamma = gamma
        self.batch_device = torch.device(device)
        self._on_cpu = self.batch_device.type == "cpu"
        self._arrays = {
            "observations": np.empty((size, *observation_shape), observation_dtype),
            "actions": np.empty((size, *action_shape), action_dtype),
            "rewards": np.empty(size, np.float32),
            "next_observations": np.empty((size, *observation_shape), observation_dtype),
            "terminated": np.empty(size, np.float32),
        }
        # the same memory, for torch to index
        self._tensors = [torch.from_numpy(array) for array in self._arrays.values()]
        if n_step > 1:
            self._arrays["ends"] = np.empty(size, bool)
        self._next = 0
        self._filled = 0
        self._envs = 0  # rows that come at once, from which it is known where the next step of a row is

    def __len__(self) -> int:
        return self._filled

    def add(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray | None = None,
    ) -> Any:
        """Add `n` transitions, one a row of each array; return the places they have taken, a slice or an array.

        For transitions of several steps, row i has to be the environment i each time, and `truncated` tells the ends
        of episodes that are no terminal states.
        """
        n = len(rewards)
        rows: Any = slice(self._next, self._next + n)
        if self._next + n > self.size:
            rows = np.arange(self._next, self._next + n) % self.size
        values: tuple[Any, ...] = (observations, actions, rewards, next_observations, terminated)
        if self.n_step > 1:
            if self._envs not in {0, n} or truncated is None:
                raise ValueError(f"{n} transitions after {self._envs}: one of each environment is added at a time")
            values = (*values, terminated | truncated)
        for array, value in zip(self._arrays.values(), values, strict=True):
            array[rows] = value
        self._envs = n
        self._next = (self._next + n) % self.size
        self._filled = min(self._filled + n, self.size)
        return rows

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 0.0) -> Batch:
        """Return `batch_size` transitions drawn with replacement; `beta` is for buffers with priorities."""
        return self.take(rng.integers(self._filled, size=batch_size))

    def take(self, rows: np.ndarray) -> Batch:
        """Return the transitions that begin at some places, (B,)."""
        indices = torch.from_numpy(rows)
        if self.n_step == 1:
            if self._on_cpu:  # NumPy's takes half as long
                return Batch(*[torch.from_numpy(array.take(rows, 0)) for array in self._arrays.values()])
            return Batch(*[tensor.index_select(0, indices).to(self.batch_device) for tensor in self._tensors])
        rewards, last, steps = self._walk(rows)
        ends = torch.from_numpy(last)
        observations, actions, _, next_observations, terminated = self._tensors
        return Batch(
            observations.index_select(0, indices),
            actions.index_select(0, indices),
            torch.from_numpy(rewards),
            next_observations.index_select(0, ends),
            terminated.index_select(0, ends),
            steps=torch.from_numpy(steps),
        ).to(self.batch_device)

    def update(self, batch: Batch, errors: Any) -> None:
        """Take note of how far off the transitions of a batch were, (B,); here all are sampled as often anyway."""

    def _walk(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the discounted rewards from some places on, the last place of each way, and its length; (B,) each."""
        rewards, ends = self._arrays["rewards"], self._arrays["ends"]
        total, last, steps = rewards[rows].astype(np.float64), rows, np.ones(len(rows), np.float32)
        later = (self._next - 1 - rows) % self.size  # how many rows were added after
        for k in range(1, self.n_step):
            ahead = (rows + k * self._envs) % self.size
            goes_on = (steps == k) & ~ends[last] & (later >= k * self._envs)
            total += np.where(goes_on, self.gamma**k * rewards[ahead], 0.0)
            last = np.where(goes_on, ahead, last)
            steps += goes_on
        return total.astype(np.float32), last, steps

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part of the arrays (not copied) and the place of the next transition."""
        filled = {name: array[: self._filled] for name, array in self._arrays.items()}
        return {"next": self._next, "filled": self._filled, "envs": self._envs, **filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill the arrays from a state of a buffer of the same size."""
        self._next, self._filled, self._envs = state["next"], state["filled"], state["envs"]
        for name, array in self._arrays.items():
            array[: self._filled] = state[name]
