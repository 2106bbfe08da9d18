"""Which of stable-baselines3's policies looks at an observation space, and which spaces it takes at all."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rllab_agents.sb3.config import SB3Config

SMALLEST_IMAGE = 36
"""Pixels, in height and in width, that the library's CNN needs at least."""
_CNN = (512, 9_600_000, 84 * 84 * 4)
"""Features of the library's CNN, and its multiply-adds for an image of so many numbers."""

Space = gymnasium.Space[Any]


def is_image(space: Space, config: SB3Config) -> bool:
    """Whether the library takes a space for an image: three dimensions, and bytes unless told otherwise."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return False
    if config.policy_kwarg.get("normalize_images", True) is False:
        return True
    return space.dtype == np.uint8 and bool((space.low == 0).all() and (space.high == 255).all())


def is_large(space: Space) -> bool:
    """Whether an image is large enough for the library's CNN; its channels are where the fewest numbers are."""
    return sorted(space.shape or (0,))[-2:][0] >= SMALLEST_IMAGE


def policy_name(config: SB3Config, space: Space) -> str:
    """Return the library's name of the policy for a space."""
    if config.policy != "auto":
        return config.policy
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image(space, config) and is_large(space) else "MlpPolicy"


def size(config: SB3Config, space: Space) -> tuple[int, float]:
    """Return the numbers that the hidden layers get, and those of a CNN before them in multiply-adds."""
    if policy_name(config, space) == "CnnPolicy":
        features, work, numbers = _CNN
        return features, work * math.prod(space.shape or ()) / numbers
    return spaces.flatdim(space), 0.0


def refusal(config: SB3Config, space: Space) -> str | None:
    """Return why the library cannot look at a space, or None if it can."""
    policy, parts = policy_name(config, space), {"observations": space}
    if isinstance(space, spaces.Dict):
        parts = {f"observations[{key!r}]": part for key, part in space.spaces.items()}
        if config.normalize_observations:
            return f"--normalize-observations is for Box observations, not {space}"
    if isinstance(space, spaces.Dict) != (policy == "MultiInputPolicy"):
        return f"--policy {policy} does not look at {space}; --policy {_suits(space)} does"
    for name, part in parts.items():
        if (reason := _refusal_of_part(part)) is not None:
            return f"{name}: {reason}"
    if policy == "CnnPolicy" and not is_image(space, config):
        return f"--policy CnnPolicy takes images of bytes from 0 to 255, (height, width, channels), not {space}"
    if config.normalize_observations and not _is_float(space):
        return f"--normalize-observations is for Box observations of floats, not {space}"
    for name, part in parts.items():
        if policy != "MlpPolicy" and is_image(part, config) and not is_large(part):
            return f"{name}: its CNN takes images of {SMALLEST_IMAGE} x {SMALLEST_IMAGE} and more, not {part}"
    return None


def _suits(space: Space) -> str:
    return "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"


def _is_float(space: Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


def _refusal_of_part(space: Space) -> str | None:
    match space:
        case spaces.Box() if not space.shape:
            return f"it takes Box observations in a row, not the single number of {space}"
        case spaces.Box() | spaces.MultiBinary():
            return None
        case spaces.Discrete():
            return None if space.start == 0 else f"it takes Discrete observations that begin at 0, not {space}"
        case spaces.MultiDiscrete():
            fits = space.nvec.ndim == 1 and not np.any(space.start)
            return None if fits else f"it takes MultiDiscrete observations in a row that begin at 0, not {space}"
        case spaces.Dict():
            return f"it takes no Dict within a Dict: {space}"
    return f"it does not take {space}"
