"""Replay of images, of which each frame is stored once and stacked when it is sampled (Mnih et al., 2015).

A stack of four frames shares three with the one before it, and the observation after a step is that before the next:
a transition adds one frame to those that are there, not eight, and its two observations are kept as the places of
their frames. What shares no frames with what came before, as at the start of an episode or where an environment moves
them all, is stored as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rllab.parts.networks import image_axes
from rllab.parts.replay import Batch, ReplayBuffer

_CHUNK = 1 << 24
"""Bytes of frames that are allocated at once."""


class FramePool:
    """Places for frames: as many as there have been at one time, and those that are given back are used again.

    Args:
        shape: of a frame.
        dtype: of a frame.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._each = max(1, _CHUNK // max(1, int(np.prod(shape)) * self.dtype.itemsize))  # frames in a chunk
        self._chunks: list[np.ndarray] = []
        self._used = 0  # places that have ever been taken
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._used - len(self._free)

    def store(self, frame: np.ndarray) -> int:
        """Copy a frame to a free place, and return it."""
        if self._free:
            place = self._free.pop()
        else:
            place = self._used
            self._used += 1
            self._grow()
        self._chunks[place // self._each][place % self._each] = frame
        return place

    def release(self, places: set[int]) -> None:
        """Give places back."""
        self._free += sorted(places)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the frames at some places: (*places, *frame)."""
        found = np.empty((places.size, *self.shape), self.dtype)
        for row, place in enumerate(places.ravel().tolist()):
            found[row] = self._chunks[place // self._each][place % self._each]
        return found.reshape(*places.shape, *self.shape)

    def _grow(self) -> None:
        while len(self._chunks) * self._each < self._used:
            self._chunks.append(np.empty((self._each, *self.shape), self.dtype))

    def state_dict(self) -> dict[str, Any]:
        """Return the places that have been taken, chunk by chunk (not copied), and which of them are free."""
        filled = [chunk[: self._used - i * self._each] for i, chunk in enumerate(self._chunks)]
        return {"used": self._used, "free": np.array(self._free, np.int64), "chunks": filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self._used, self._free = state["used"], state["free"].tolist()
        self._grow()
        for chunk, filled in zip(self._chunks, state["chunks"], strict=False):
            chunk[: len(filled)] = filled


class FrameReplay(ReplayBuffer):
    """A replay buffer of images: what `ReplayBuffer` is, in a fraction of the memory.

    Args:
        size: transitions it holds; the oldest is overwritten.
        observation_shape: of one image or one stack of images; see `rllab.parts.networks.image_axes`.
        observation_dtype: of one observation.
        num_envs: how many transitions are added at a time; row i is always of the environment i.
        action_shape: of one action, () for a number.
        action_dtype: of one action.
        n_step: steps of a transition that is sampled, at most.
        gamma: discount of rewards within it.
        device: where batches go.

    Raises:
        ValueError: if it does not hold two transitions of each environment.
    """

    def __init__(
        self,
        size: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        num_envs: int,
        action_shape: tuple[int, ...] = (),
        action_dtype: Any = np.int64,
        *,
        n_step: int = 1,
        gamma: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if size < 2 * num_envs:
            raise ValueError(f"{size} transitions are less than two for each of {num_envs} environments")
        self._shape = observation_shape
        self._axis = stacking_axis(observation_shape)
        frames, *frame = self._frames(np.empty((1, *observation_shape), bool)).shape[1:]
        # the buffer holds the places of frames instead of observations
        super().__init__(size, (frames,), np.int32, action_shape, action_dtype, n_step=n_step, gamma=gamma)
        self.batch_device = torch.device(device)
        self._envs = num_envs
        self._pool = FramePool(tuple(frame), observation_dtype)
        self._last: list[list[int]] = [[]] * num_envs  # where the frames lie that each environment showed last

    def add(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray | None = None,
    ) -> Any:
        """Add a transition of each environment, one a row of each array; return the places they have taken."""
        if len(rewards) != self._envs:
            raise ValueError(f"{len(rewards)} transitions are added, not one of each of {self._envs} environments")
        before, after = [], []
        pairs = zip(self._frames(observations), self._frames(next_observations), self._last, strict=True)
        for now, then, last in pairs:
            before.append(self._places(now, last))
            after.append(self._places(then, before[-1]))
        self._last = after
        self._forget_oldest()
        return super().add(np.array(before), actions, rewards, np.array(after), terminated, truncated)

    def take(self, rows: np.ndarray) -> Batch:
        """Return the transitions that begin at some places, (B,)."""
        places = super().take(rows)
        batch = places._replace(
            observations=self._stacks(places.observations), next_observations=self._stacks(places.next_observations)
        )
        return batch.to(self.batch_device)

    def _frames(self, observations: np.ndarray) -> np.ndarray:
        """Return observations (n, *shape) as (n, frames, *frame)."""
        if self._axis is None:
            return observations[:, None]
        return np.moveaxis(observations, self._axis + 1, 1)

    def _stacks(self, places: torch.Tensor) -> torch.Tensor:
        """Return the observations whose frames lie at `places` (B, frames): (B, *shape)."""
        frames = self._pool.take(places.numpy())  # (B, frames, *frame)
        return torch.from_numpy(frames[:, 0] if self._axis is None else np.moveaxis(frames, 1, self._axis + 1))

    def _places(self, frames: np.ndarray, before: list[int]) -> list[int]:
        """Store what is new in an observation (frames, *frame) after one at the places `before`; return its places."""
        if before:
            known = self._pool.take(np.array(before))  # (frames, *frame)
            if np.array_equal(frames, known):
                return before
            if np.array_equal(frames[:-1], known[1:]):
                return [*before[1:], self._pool.store(frames[-1])]
        places: list[int] = []
        for i, frame in enumerate(frames):  # the first stack of an episode is often one frame several times
            repeated = i > 0 and np.array_equal(frame, frames[i - 1])
            places.append(places[-1] if repeated else self._pool.store(frame))
        return places

    def _forget_oldest(self) -> None:
        """Give back the frames that only the transitions have which are overwritten next."""
        overwritten = self._filled + self._envs - self.size
        if overwritten <= 0:
            return
        rows = (self._next + self.size - self._filled + np.arange(overwritten)) % self.size
        later = (rows + self._envs) % self.size  # the next step of the same environment, which has all that is needed
        both = self._arrays["observations"], self._arrays["next_observations"]
        gone, kept = (np.concatenate([array[at] for array in both], 1).tolist() for at in (rows, later))
        for old, new in zip(gone, kept, strict=True):
            self._pool.release(set(old) - set(new))

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part (not copied)."""
        return {**super().state_dict(), "last": self._last, "pool": self._pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill it from a state of a buffer of the same size."""
        super().load_state_dict(state)
        self._last = [list(places) for places in state["last"]]
        self._pool.load_state_dict(state["pool"])


def stacking_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of an observation along which frames, or planes of colour, lie; None for a single plane.

    Raises:
        ValueError: if it is no image, or too small.
    """
    axes = image_axes(shape)
    if axes is None:
        raise ValueError(f"{shape} are no frames")
    return axes[0] if len(shape) > 2 else None
