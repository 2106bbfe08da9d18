"""Running normalisation of observations, whose statistics are saved with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningNormalizer(nn.Module):
    """Shifts and scales inputs to mean 0 and variance 1, as estimated so far (Chan et al., 1979, parallel variance).

    The statistics are buffers, so they are weights: an agent that is loaded sees observations as it did in
    training. They change in `update` only, never in `forward`.

    Args:
        size: length of the input vectors.
        clip: normalised values are cut to [-clip, clip].
    """

    mean: Tensor
    variance: Tensor
    number: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("number", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, inputs: Tensor) -> None:
        """Take inputs (batch, size) into the statistics."""
        batch = inputs.double()
        n, total = len(batch), self.number + len(batch)
        delta = batch.mean(0) - self.mean
        squares = self.variance * self.number + batch.var(0, correction=0) * n + delta**2 * self.number * n / total
        self.mean += delta * n / total
        self.variance.copy_(squares / total)
        self.number += n

    def forward(self, inputs: Tensor) -> Tensor:
        """Return normalised inputs (batch, size) in float32."""
        scaled = (inputs - self.mean) / (self.variance + 1e-8).sqrt()
        return scaled.clamp(-self.clip, self.clip).float()
