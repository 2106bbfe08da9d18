"""Averages of weights over training, which are often better than the last ones.

Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992); for GANs Yazici et al., "The Unusual
Effectiveness of Averaging in GAN Training" (2019).
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(nn.Module):
    """An exponential moving average of a network's weights; a module, so that it is saved with the weights.

    With w_t the weights after step t:  a_t = d a_(t-1) + (1 - d) w_t,  where d = min(decay, (1 + t) / (10 + t)), so
    that the first steps do not hang on to where the network began.

    Args:
        network: whose weights are averaged; to be given before its optimiser is made.
        decay: how much of the average is kept at a step, below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.copy = copy.deepcopy(network).requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights of a step into the average; buffers, such as those of batch normalisation, are copied."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for weight, other in zip(self.copy.parameters(), network.parameters(), strict=True):
            weight.lerp_(other, 1 - decay)
        for buffer, latest in zip(self.copy.buffers(), network.buffers(), strict=True):
            buffer.copy_(latest)


def average_of(network: nn.Module, decay: float) -> WeightAverage | None:
    """Return the average of a network's weights, None for a `decay` of 0."""
    return WeightAverage(network, decay) if decay else None


def averaged(network: Network, average: WeightAverage | None) -> Network:
    """Return what to measure and draw with: the averaged network if there is one, else the network."""
    if average is None:
        return network
    found: Network = average.copy  # type: ignore[assignment]
    return found
