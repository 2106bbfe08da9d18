"""Actions between bounds: scaled to [-1, 1], and a Gaussian squashed into them by tanh (Haarnoja et al., 2018).

    u ~ N(mean, std),  a = tanh(u)
    log p(a) = log N(u; mean, std) - sum of log(1 - tanh(u)^2)              the change of variables

In the environment's own units, scale * a + shift, the density is smaller by the factor `scale` for each dimension.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rllab.parts.arrays import Numbers

LOG_STD = (-20.0, 2.0)
"""Between these the log standard deviation is cut, as in the authors' code."""


class Sample(NamedTuple):
    """Actions that were drawn, and the way back to the outputs of the policy they come from (reparametrised).

    With u = mean + std * noise and a = tanh(u):  da/du = 1 - a^2,  dlog p/du = 2 a,  and dlog p/dlog std = -1 beside
    what comes through u.
    """

    actions: Numbers
    """(B, A) in [-1, 1]"""
    log_probs: Numbers
    """(B,), summed over the dimensions"""
    deviation: Numbers
    """(B, A), std * noise"""
    inside: Numbers
    """(B, A), whether the log standard deviation is one that is not cut"""

    def gradient(self, by_actions: Numbers, by_log_probs: Numbers | float) -> Numbers:
        """Return the gradient by the outputs, (B, 2 A).

        Args:
            by_actions: the gradient by the actions, (B, A).
            by_log_probs: that by the log-probabilities, (B, 1), or a number for all.
        """
        by_u = by_actions * (1 - self.actions**2) + by_log_probs * (2 * self.actions)  # (B, A)
        by_log_std = (by_u * self.deviation - by_log_probs) * self.inside  # none where it is cut
        return _library(by_u).concatenate([by_u, by_log_std], 1)


def sample(outputs: Numbers, noise: Numbers, scale: Numbers | float = 1.0) -> Sample:
    """Return actions and their log-probabilities, of arrays or tensors; `Sample.gradient` leads back to the outputs.

    Args:
        outputs: (B, 2 A), the mean of the Gaussian before it is squashed, then its log standard deviation.
        noise: (B, A), standard normal.
        scale: (A,), half the width of the bounds, for densities in the environment's units; 1: between -1 and 1.
    """
    mean, raw = outputs[:, : noise.shape[1]], outputs[:, noise.shape[1] :]  # (B, A) each
    log_std = raw.clip(*LOG_STD)
    deviation = _library(raw).exp(log_std) * noise  # (B, A)
    u = mean + deviation
    log_probs = _log_density(u, noise, log_std) - _scaling(scale, noise)
    return Sample(squash(u), log_probs, deviation, raw == log_std)


def log_prob(u: Tensor, outputs: Tensor, scale: Numbers | float = 1.0) -> Tensor:
    """Return the log-probabilities (B,) of the actions tanh(u), or scale * tanh(u) + shift.

    They are asked for by `u` (B, A), since an action of 1 - 1e-9 and one of 1 are the same number in float32,
    and their log-probabilities are not. The other arguments are as in `sample`.
    """
    mean, log_std = outputs.chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD)
    log_probs: Tensor = _log_density(u, (u - mean) / log_std.exp(), log_std) - _scaling(scale, u)
    return log_probs


def mode(outputs: np.ndarray) -> np.ndarray:
    """Return the squashed mean (B, A), tanh(mean), of outputs (B, 2 A): the action at the middle of the policy's."""
    actions: np.ndarray = np.tanh(outputs[:, : outputs.shape[1] // 2])
    return actions


def act(outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the actions of `sample` (B, A), of arrays."""
    mean, log_std = np.split(outputs, 2, axis=1)
    actions: np.ndarray = np.tanh(mean + np.exp(log_std.clip(*LOG_STD)) * noise)
    return actions


def squash(u: Numbers) -> Numbers:
    """Return tanh(u)."""
    return _library(u).tanh(u)


def _library(numbers: Numbers) -> Any:
    """Return the module that has the functions of an array, or of a tensor, by the same names."""
    return np if isinstance(numbers, np.ndarray) else torch


def _log_density(u: Numbers, noise: Numbers, log_std: Numbers) -> Numbers:
    """Return log p(tanh(u)), (B,), where u = mean + exp(log_std) * noise."""
    library, size = _library(u), abs(u)
    # log(1 - tanh(u)^2), which is log(0) for |u| > 9 if it is computed as it is written
    squashing = 2 * (math.log(2) - size - library.log1p(library.exp(-2 * size)))  # (B, A)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)  # (B, A)
    return (gaussian - squashing).sum(1)


def _scaling(scale: Numbers | float, like: Numbers) -> float:
    """Return the logarithm of the factor by which the density is smaller in the environment's units."""
    if isinstance(scale, float) and scale == 1:
        return 0.0
    return float(np.log(np.broadcast_to(scale, like.shape[1])).sum())


class ActionBounds:
    """Scales the actions of a box to [-1, 1] and back; numbers and arrays of any shape become rows (n, size).

    Args:
        space: a box with finite bounds.

    Attributes:
        size: dimensions of an action.
        scale: (size,) half the width of the bounds.
        shift: (size,) the middle between them.

    Raises:
        ValueError: for a space it cannot handle; ask `refusal` first.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if (reason := self.refusal(space)) is not None:
            raise ValueError(reason)
        assert isinstance(space, spaces.Box)
        self._shape, self._dtype = space.shape, space.dtype
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)
        low, high = self._low.astype(np.float64), self._high.astype(np.float64)
        self.size = low.size
        self.scale = (high - low) / 2
        self.shift = (high + low) / 2

    @staticmethod
    def refusal(space: spaces.Space[Any]) -> str | None:
        """Return why the actions of a space cannot be scaled, or None if they can."""
        if not isinstance(space, spaces.Box):
            return f"it takes Box actions, not {space}"
        if not np.issubdtype(space.dtype, np.floating):
            return f"it takes Box actions of floats, not of {space.dtype}"
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        largest = np.finfo(space.dtype).max  # what some write for infinity
        for i in np.flatnonzero((low <= -largest) | (high >= largest)):
            return (
                f"it scales actions between their bounds, and an action bound is infinite: number {i} lies in "
                f"[{low[i]}, {high[i]}]; reinforce, a2c and ppo take unbounded actions"
            )
        return None

    def to_unit(self, actions: np.ndarray) -> np.ndarray:
        """Return actions (n, *shape) of the environment as float32 in [-1, 1], (n, size); 0 where bounds are equal."""
        scale = np.where(self.scale > 0, self.scale, 1.0)
        rows: np.ndarray = (actions.reshape(len(actions), self.size) - self.shift) / scale
        return rows.astype(np.float32)

    def from_unit(self, actions: np.ndarray) -> np.ndarray:
        """Return actions (n, size) in [-1, 1] as the environment takes them, (n, *shape), never beyond its bounds."""
        rows = (self.shift + self.scale * actions).astype(self._dtype)
        inside: np.ndarray = np.clip(rows, self._low, self._high)
        return inside.reshape(len(actions), *self._shape)
