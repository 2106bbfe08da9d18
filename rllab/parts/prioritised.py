"""Prioritised replay: transitions are sampled the more often, the larger their last error was.

Schaul et al., "Prioritized Experience Replay", ICLR (2016); the proportional variant, Algorithm 1.

    p_i = (|error_i| + eps)^alpha,  the highest there has been for a new transition;  P(i) = p_i / sum of all p
    w_i = (N P(i))^(-beta) / the largest w of the batch,  and beta goes up to 1
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rllab.parts.arrays import Numbers, as_array
from rllab.parts.replay import Batch, ReplayBuffer

_FANOUT = 64
"""Children of a node: NumPy adds up 64 numbers about as fast as 2."""


class SumTree:
    """Numbers of which any can be changed, and one be found by how far along their sum it lies, in a few operations.

    Each node of a level is the sum of 64 of the level below; the lowest level are the numbers.

    Args:
        size: how many there are; all are 0 at first.
    """

    def __init__(self, size: int) -> None:
        lengths = [-(-size // _FANOUT) * _FANOUT]
        while lengths[-1] > _FANOUT:
            lengths.append(-(-lengths[-1] // (_FANOUT * _FANOUT)) * _FANOUT)
        self._levels = [np.zeros(length) for length in lengths]  # the numbers, sums of 64, sums of 64 * 64, ...
        self._blocks = [level.reshape(-1, _FANOUT) for level in self._levels]

    @property
    def total(self) -> float:
        """Return the sum of all numbers."""
        return float(np.cumsum(self._levels[-1])[-1])  # added up one by one, as `find` does

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers at some places."""
        found: np.ndarray = self._levels[0][places]
        return found

    def set(self, places: np.ndarray, values: np.ndarray | float) -> None:
        """Change the numbers at some places; of a place that is named twice the last value stays."""
        self._levels[0][places] = values
        for blocks, above in zip(self._blocks[:-1], self._levels[1:], strict=True):
            places = places // _FANOUT
            above[places] = blocks[places].cumsum(1)[:, -1]

    def find(self, distances: np.ndarray) -> np.ndarray:
        """Return the places (n,) where the sum of the numbers up to them first exceeds `distances` (n,).

        A place with the number 0 is never found, whatever rounding does.
        """
        places = np.zeros(len(distances), np.int64)
        for blocks in reversed(self._blocks):
            sums = blocks[places].cumsum(1)  # (n, 64)
            distances = np.minimum(distances, np.nextafter(sums[:, -1], 0))
            child = (sums <= distances[:, None]).sum(1)
            rows = np.arange(len(places))
            distances = distances - np.where(child > 0, sums[rows, child - 1], 0.0)
            places = places * _FANOUT + child
        return places

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers (not copied)."""
        return {"numbers": self._levels[0]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state of a tree of the same size."""
        self._levels[0][:] = state["numbers"]
        for blocks, above in zip(self._blocks[:-1], self._levels[1:], strict=True):
            sums = blocks.cumsum(1)[:, -1]
            above[: len(sums)] = sums


class PrioritisedReplay:
    """A replay buffer that is sampled by priority.

    Args:
        replay: what holds the transitions, empty.
        alpha: how much the error counts; 0: all are sampled as often.
        eps: added to an error, so that none is never sampled again.
    """

    def __init__(self, replay: ReplayBuffer, alpha: float, eps: float = 1e-6) -> None:
        self.replay = replay
        self.alpha = alpha
        self.eps = eps
        self.highest = 1.0  # priority so far
        self._tree = SumTree(replay.size)

    def __len__(self) -> int:
        return len(self.replay)

    def add(self, *transitions: np.ndarray) -> None:
        """Add transitions, as to a `ReplayBuffer`, at the highest priority so far."""
        rows = self.replay.add(*transitions)
        places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        self._tree.set(places, self.highest)

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float) -> Batch:
        """Return transitions drawn by priority, one from each of `batch_size` equal parts of the sum of all.

        Args:
            batch_size: how many.
            rng: what draws.
            beta: how far the weights make up for it that some come more often; 1: all the way.
        """
        total = self._tree.total
        rows = self._tree.find((np.arange(batch_size) + rng.random(batch_size)) * (total / batch_size))
        probability = self._tree[rows] / total  # (B,)
        importance = (len(self) * probability) ** -beta
        weights = torch.from_numpy((importance / importance.max()).astype(np.float32)).to(self.replay.batch_device)
        return self.replay.take(rows)._replace(weights=weights, rows=torch.from_numpy(rows))

    def update(self, batch: Batch, errors: Numbers) -> None:
        """Give the transitions of a batch the priorities of their errors (B,)."""
        assert batch.rows is not None, "the batch is of another buffer"
        priorities = (np.abs(as_array(errors), dtype=np.float64) + self.eps) ** self.alpha
        self.highest = max(self.highest, float(priorities.max()))
        self._tree.set(as_array(batch.rows), priorities)

    def state_dict(self) -> dict[str, Any]:
        """Return the transitions, and their priorities."""
        return {
            "replay": self.replay.state_dict(),
            "tree": self._tree.state_dict(),
            "highest": self.highest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state of a buffer of the same size."""
        self.replay.load_state_dict(state["replay"])
        self._tree.load_state_dict(state["tree"])
        self.highest = state["highest"]
