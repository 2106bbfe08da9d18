"""Distributions over actions, made of the numbers that a policy network gives out.

One class for each kind of action space, all with the same methods. Acting happens in NumPy (`sample`, `mode`), on a
generator that is passed in; learning in torch (`evaluate`, and `gradient`, which is that of `evaluate`, written out),
as plain arithmetic: for small batches the objects of torch.distributions take longer than what they compute.

An action is stored as it was drawn, and its probability is that of what was drawn; `to_environment` clips and shapes
it for the environment alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional


class Distribution(nn.Module, ABC):
    """A distribution over the actions of a space; a module without parameters, as what acting needs lives in modules.

    Attributes:
        outputs: how many numbers a policy network gives for it.
        constants: how many of those, the last ones, do not depend on the state.
        action_shape: of a stored action.
        action_dtype: of a stored action.
    """

    outputs: int
    constants: int = 0
    action_shape: tuple[int, ...]
    action_dtype: type[np.generic] = np.int64

    @abstractmethod
    def sample(self, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return actions (n, *action_shape) drawn from what a network gave, (n, outputs)."""

    @abstractmethod
    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable actions, (n, *action_shape)."""

    @abstractmethod
    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log pi(action), summed over the action's dimensions, and the entropy: (B,) both.

        Args:
            outputs: (B, outputs).
            actions: (B, *action_shape), as they were drawn.
        """

    @abstractmethod
    def gradient(self, outputs: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
        """Return the gradient of a loss by the outputs, (B, outputs).

        Args:
            outputs: (B, outputs).
            actions: (B, *action_shape).
            by_log_prob: (B,), the loss's gradient by log pi(action).
            by_entropy: its gradient by the entropy, the same in each row.
        """

    @abstractmethod
    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Return stored actions (n, *action_shape) as the environment takes them."""


class Categorical(Distribution):
    """One of `n` actions; the network gives logits, and p = softmax(logits)."""

    action_shape = ()

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.outputs = int(space.n)
        self.start = int(space.start)

    def sample(self, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw by the trick of Gumbel: the highest logit after noise -log E, with E exponential."""
        actions: np.ndarray = (outputs - np.log(rng.standard_exponential(outputs.shape))).argmax(1)
        return actions

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return where the logits are highest."""
        actions: np.ndarray = outputs.argmax(1)
        return actions

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(action), and -sum p log p."""
        log_p = torch.log_softmax(outputs, 1)  # (B, n)
        return log_p.gather(1, actions[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(1)

    def gradient(self, outputs: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
        """Return what one-hot - p makes of a slope by log p(action), and -p (log p + H) of one by H."""
        return _by_logits(torch.log_softmax(outputs, 1), actions[:, None], by_log_prob[:, None], by_entropy)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Return actions counted as the space counts them."""
        return actions + self.start


class MultiCategorical(Distribution):
    """Several choices at once, each independent of the others; the network gives the logits of all."""

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.choices = [int(n) for n in space.nvec.flatten()]
        self.outputs = sum(self.choices)
        self.action_shape = (len(self.choices),)
        self.start = np.asarray(space.start)
        self.dtype = space.dtype
        self._bounds = np.cumsum(self.choices)[:-1].tolist()

    def sample(self, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw each choice as `Categorical` does."""
        return self.mode(outputs - np.log(rng.standard_exponential(outputs.shape)))

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return where the logits of each choice are highest."""
        return np.stack([logits.argmax(1) for logits in np.split(outputs, self._bounds, 1)], 1)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over the choices."""
        log_ps = [torch.log_softmax(logits, 1) for logits in torch.split(outputs, self.choices, 1)]  # (B, n_i) each
        log_prob = torch.stack([log_p.gather(1, actions[:, i : i + 1]) for i, log_p in enumerate(log_ps)]).sum(0)
        log_p = torch.cat(log_ps, 1)  # (B, outputs)
        return log_prob.squeeze(1), -(log_p.exp() * log_p).sum(1)

    def gradient(self, outputs: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
        """Return the gradients of `Categorical` side by side."""
        slope = by_log_prob[:, None]  # (B, 1)
        log_ps = [torch.log_softmax(logits, 1) for logits in torch.split(outputs, self.choices, 1)]  # (B, n_i) each
        parts = [_by_logits(log_p, actions[:, i : i + 1], slope, by_entropy) for i, log_p in enumerate(log_ps)]
        return torch.cat(parts, 1)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Return actions in the shape of the space, counted as it counts them."""
        shaped: np.ndarray = actions.reshape(len(actions), *self.start.shape) + self.start
        return shaped.astype(self.dtype)


def _by_logits(log_p: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
    """Return a loss's gradient by the logits of one choice: log_p (B, n), actions and slopes (B, 1)."""
    p = log_p.exp()
    gradient = (p * -by_log_prob).scatter_add_(1, actions, by_log_prob)  # (B, n)
    if by_entropy:
        p_log_p = p * log_p
        gradient += by_entropy * (p * p_log_p.sum(1, keepdim=True) - p_log_p)
    return gradient


class Bernoulli(Distribution):
    """Switches, each on or off, independent of one another; the network gives logits, and p(on) = sigmoid(logit)."""

    action_dtype = np.int8

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.shape = space.shape
        self.outputs = math.prod(space.shape)
        self.action_shape = (self.outputs,)

    def sample(self, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw by the inverse of the sigmoid: on where the logit is above logistic noise."""
        return (outputs > rng.logistic(size=outputs.shape)).astype(np.int8)

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return on where that is more probable than off."""
        return (outputs > 0).astype(np.int8)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over the switches of log p and of the entropies."""
        log_on, log_off = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)  # (B, switches)
        log_prob = torch.where(actions.bool(), log_on, log_off).sum(1)
        return log_prob, -(log_on.exp() * log_on + log_off.exp() * log_off).sum(1)

    def gradient(self, outputs: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
        """Return what action - p makes of a slope by log p(action), and -logit p (1 - p) of one by the entropy."""
        p = torch.sigmoid(outputs)  # (B, switches)
        gradient: Tensor = by_log_prob[:, None] * (actions - p)
        return gradient - by_entropy * outputs * p * (1 - p) if by_entropy else gradient

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Return actions in the shape of the space."""
        return actions.reshape(len(actions), *self.shape)


class Gaussian(Distribution):
    """Real numbers, independent of one another; the network gives their means, then the logarithms of their deviations.

    The deviations are the same in every state, as in Schulman et al. (2017). The bounds of the box clip what the
    environment gets, and nothing else.
    """

    action_dtype = np.float32

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.low, self.high = space.low, space.high
        self.constants = math.prod(space.shape)
        self.outputs = 2 * self.constants
        self.action_shape = (self.constants,)

    def sample(self, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return mean + deviation * noise, which may lie outside the box."""
        mean, log_std = outputs[:, : self.constants], outputs[:, self.constants :]
        actions: np.ndarray = mean + np.exp(log_std) * rng.standard_normal(mean.shape, np.float32)
        return actions

    def mode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the means."""
        return outputs[:, : self.constants]

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over the dimensions of log N(action; mean, std) and of the entropies."""
        mean, log_std = outputs.chunk(2, 1)  # (B, dimensions) each
        z = (actions - mean) * torch.exp(-log_std)
        scale = (log_std + _HALF_LOG_2_PI).sum(1)
        return -0.5 * z.square().sum(1) - scale, scale + 0.5 * self.constants

    def gradient(self, outputs: Tensor, actions: Tensor, by_log_prob: Tensor, by_entropy: float) -> Tensor:
        """Return what z / std makes of a slope by the log-probability at the means, and z^2 - 1 at log std."""
        mean, log_std = outputs.chunk(2, 1)  # (B, dimensions) each
        precision = torch.exp(-log_std)
        z = (actions - mean) * precision
        slope = by_log_prob[:, None]
        return torch.cat([slope * z * precision, slope * (z.square() - 1) + by_entropy], 1)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Return actions in the shape of the space, clipped to its bounds."""
        shaped: np.ndarray = actions.reshape(len(actions), *self.low.shape).astype(self.low.dtype)
        return shaped.clip(self.low, self.high)


_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def refusal(space: spaces.Space[Any]) -> str | None:
    """Return why there is no distribution over a space of actions, or None if there is one."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return None
    return f"it takes Discrete, MultiDiscrete, MultiBinary and real Box actions, not {space}"


def distribution_for(space: spaces.Space[Any]) -> Distribution:
    """Return the distribution over a space of actions.

    Raises:
        ValueError: for a space that `refusal` refuses.
    """
    match space:
        case spaces.Discrete():
            return Categorical(space)
        case spaces.MultiDiscrete():
            return MultiCategorical(space)
        case spaces.MultiBinary():
            return Bernoulli(space)
        case spaces.Box() if refusal(space) is None:
            return Gaussian(space)
    raise ValueError(refusal(space))
