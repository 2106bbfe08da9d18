"""Which replay buffer observations get, and whether it fits into memory."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rllab.device import memory
from rllab.errors import UsageError
from rllab.parts.frames import FrameReplay, stacking_axis
from rllab.parts.networks import image_axes
from rllab.parts.prioritised import PrioritisedReplay
from rllab.parts.replay import ReplayBuffer

_SHARE = 0.9
"""Of the free memory that a buffer may take: networks and batches need some, too."""


def make_replay(
    space: spaces.Space[Any],
    size: int,
    num_envs: int,
    *,
    n_step: int = 1,
    gamma: float = 1.0,
    alpha: float | None = None,
    device: torch.device | str = "cpu",
) -> ReplayBuffer | PrioritisedReplay:
    """Return a replay buffer for discrete actions; that of images stores each frame once.

    Args:
        space: of one observation.
        size: transitions it holds.
        num_envs: transitions that are added at a time.
        n_step: steps of a transition that is sampled, at most.
        gamma: discount of rewards within it.
        alpha: how much the last error of a transition counts when it is sampled; None: it does not.
        device: where batches go.
    """
    shape = space.shape or ()
    if _has_frames(space):
        replay: ReplayBuffer = FrameReplay(
            size, shape, space.dtype, num_envs, n_step=n_step, gamma=gamma, device=device
        )
    else:
        replay = ReplayBuffer(size, shape, space.dtype, n_step=n_step, gamma=gamma, device=device)
    return replay if alpha is None else PrioritisedReplay(replay, alpha)


def check_room(space: spaces.Space[Any], size: int, num_envs: int = 1, *, action_bytes: int = 8) -> None:
    """Refuse a replay buffer that has no room in memory, before any of it is taken.

    Args:
        space: of one observation.
        size: transitions it shall hold.
        num_envs: transitions that are added at a time.
        action_bytes: of one action.

    Raises:
        UsageError: that says what it takes, what is free, and the largest that fits.
    """
    if _has_frames(space) and size < 2 * num_envs:
        raise UsageError(
            f"--buffer-size {size} is less than two transitions of each of {num_envs} environments",
            f"Make it {2 * num_envs} or larger.",
        )
    check_bytes(size, transition_bytes(space, action_bytes))


def check_bytes(size: int, each: int) -> None:
    """Refuse a replay buffer of `size` transitions, of so many bytes each, that has no room in memory.

    Raises:
        UsageError: that says what it takes, what is free, and the largest that fits.
    """
    free = memory()[1]
    if free is None or each * size <= free * _SHARE:
        return
    raise UsageError(
        f"a replay buffer of {size:,} transitions takes {_text(each * size)} ({size * each:,} bytes), "
        f"and {_text(free)} of memory are free",
        f"The largest that fits is --buffer-size {int(free * _SHARE) // each}.",
    )


def transition_bytes(space: spaces.Space[Any], action_bytes: int = 8) -> int:
    """Return the bytes that a transition takes; of a stack of frames the one is counted that is new in it."""
    shape, itemsize = space.shape or (), np.dtype(space.dtype).itemsize
    others = action_bytes + 4 + 4  # the action, the reward, whether it is the last
    if not _has_frames(space):
        return 2 * prod(shape) * itemsize + others
    axis = stacking_axis(shape)
    planes = 1 if axis is None else shape[axis]
    colours = axis is not None and axis > 0 and planes == 3  # which change all at once
    return prod(shape) * itemsize // (1 if colours else planes) + 2 * planes * 4 + others


def _has_frames(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and image_axes(space.shape) is not None


def _text(size: float) -> str:
    unit, name = next(((unit, name) for unit, name in ((1e12, "TB"), (1e9, "GB")) if size >= unit), (1e6, "MB"))
    return f"{size / unit:.3g} {name}"
