"""Actions between bounds: scaled to [-1, 1], and a Gaussian squashed into them by tanh (Haarnoja et al., 2018).

    u ~ N(mean, std),  a = tanh(u)
    log p(a) = log N(u; mean, std) - sum of log(1 - tanh(u)^2)              the change of variables

In the environment's own units, scale * a + shift, the density is smaller by the factor `scale` for each dimension.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

LOG_STD = (-20.0, 2.0)
"""Between these the log standard deviation is cut, as in the authors' code."""


def sample(outputs: Tensor, noise: Tensor, scale: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Return actions and their log-probabilities, both differentiable by the outputs of a policy (reparametrised).

    Args:
        outputs: (B, 2 A), the mean of the Gaussian before it is squashed, then its log standard deviation.
        noise: (B, A), standard normal.
        scale: (A,), half the width of the bounds, for densities in the environment's units; 1: between -1 and 1.

    Returns:
        Actions (B, A) in [-1, 1], and log-probabilities (B,), summed over the dimensions.
    """
    actions, log_probs = _Sample.apply(outputs, noise)  # type: ignore[no-untyped-call]
    return actions, log_probs if isinstance(scale, float) and scale == 1 else log_probs - _scaling(scale, noise)


def log_prob(u: Tensor, outputs: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Return the log-probabilities (B,) of the actions tanh(u), or scale * tanh(u) + shift.

    They are asked for by `u` (B, A), since an action of 1 - 1e-9 and one of 1 are the same number in float32,
    and their log-probabilities are not. The other arguments are as in `sample`.
    """
    mean, log_std = outputs.chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD)
    return _log_density(u, (u - mean) / log_std.exp(), log_std) - _scaling(scale, u)


def mode(outputs: np.ndarray) -> np.ndarray:
    """Return the squashed mean (B, A), tanh(mean), of outputs (B, 2 A): the action at the middle of the policy's."""
    actions: np.ndarray = np.tanh(outputs[:, : outputs.shape[1] // 2])
    return actions


def act(outputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the actions of `sample` (B, A), of arrays."""
    mean, log_std = np.split(outputs, 2, axis=1)
    actions: np.ndarray = np.tanh(mean + np.exp(log_std.clip(*LOG_STD)) * noise)
    return actions


class _Sample(torch.autograd.Function):
    """`sample`, as one node of autograd's graph instead of two dozen.

    With u = mean + std * noise and a = tanh(u):  da/du = 1 - a^2,  dlog p/du = 2 a,  and dlog p/dlog std = -1 beside
    what comes through u.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (B, A) and log-probabilities (B,)."""
        mean, raw = outputs.chunk(2, 1)  # (B, A) each
        log_std = raw.clamp(*LOG_STD)
        deviation = log_std.exp().mul_(noise)  # (B, A)
        u = mean + deviation
        actions = torch.tanh(u)
        ctx.save_for_backward(actions, deviation, raw == log_std)
        return actions, _log_density(u, noise, log_std)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by the outputs (B, 2 A)."""
        by_actions, by_log_probs = gradients[0], gradients[1][:, None]
        actions, deviation, inside = ctx.saved_tensors
        by_u = by_actions * (1 - actions.square()) + by_log_probs * 2 * actions  # (B, A)
        by_log_std = (by_u * deviation - by_log_probs) * inside  # none where it is cut
        return torch.cat([by_u, by_log_std], 1), None


def _log_density(u: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """Return log p(tanh(u)), (B,), where u = mean + exp(log_std) * noise."""
    # log(1 - tanh(u)^2), which is log(0) for |u| > 9 if it is computed as it is written
    squashing = 2 * (math.log(2) - u - functional.softplus(-2 * u))  # (B, A)
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)  # (B, A)
    return (gaussian - squashing).sum(1)


def _scaling(scale: Tensor | float, like: Tensor) -> Tensor:
    """Return the logarithm of the factor by which the density is smaller in the environment's units."""
    return torch.as_tensor(scale, dtype=like.dtype, device=like.device).expand(like.size(1)).log().sum()


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
