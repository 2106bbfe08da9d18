"""Networks: multilayer perceptrons, and what turns observations into their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

Activation: TypeAlias = Literal["relu", "tanh", "elu", "sigmoid", "softplus", "linear"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}


class MLP(nn.Sequential):
    """Layers one after the other, without the hooks of each.

    For a small batch, what a module does around its `forward` takes as long as the multiplication in it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (batch, outputs) for inputs (batch, inputs)."""
        for layer in self:
            input = layer.forward(input)
        return input


def mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: Activation = "relu") -> nn.Sequential:
    """Return a multilayer perceptron (batch, inputs) -> (batch, outputs); no activation after the last layer."""
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[activation]()]
    return MLP(*layers, nn.Linear(sizes[-1], outputs))


class Observations(nn.Module):
    """Turns a batch of observations of a space into float vectors (batch, size).

    Boxes are flattened; discrete spaces, also those that start elsewhere than 0, become one-hot vectors.

    Raises:
        ValueError: for a space it cannot handle; ask `refusal` first.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        if (reason := self.refusal(space)) is not None:
            raise ValueError(reason)
        self.space = space
        self.size = spaces.flatdim(space)

    @staticmethod
    def refusal(space: spaces.Space[Any]) -> str | None:
        """Return why a space cannot become a vector, or None if it can."""
        if isinstance(space, spaces.Box):
            image = len(space.shape) == 3 and space.dtype == np.uint8 and min(sorted(space.shape)[1:]) >= 36
            return f"it takes vectors, and the observations are images of {space.shape}" if image else None
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return None
        return f"it takes Box, Discrete, MultiDiscrete and MultiBinary observations, not {type(space).__name__}"

    def forward(self, observations: Tensor) -> Tensor:
        """Return (batch, size) float32 for observations (batch, *shape)."""
        match self.space:
            case spaces.Discrete(n=n, start=start):
                return nn.functional.one_hot(observations.long() - int(start), int(n)).float()
            case spaces.MultiDiscrete(nvec=nvec, start=start):
                offsets = torch.as_tensor(start, device=observations.device).flatten()
                columns = observations.long().flatten(1) - offsets
                hot = [nn.functional.one_hot(columns[:, i], int(n)) for i, n in enumerate(nvec.flatten())]
                return torch.cat(hot, 1).float()
        return observations.reshape(len(observations), self.size).float()  # numbers, too: a Box of shape ()
