"""Running normalisation of observations, whose statistics are saved with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def precision(device: torch.device | str) -> torch.dtype:
    """Return the type of statistics on a device: float64, but float32 on a Mac's GPU, which has no other.

    In float32 the number of rows stops growing at 2**24 (17 million); each later one then moves the statistics by
    1 / 2**24 of its distance from them.
    """
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


class RunningNormalizer(nn.Module):
    """Shifts and scales inputs to mean 0 and variance 1, as estimated so far (Chan et al., 1979, parallel variance).

    The statistics are buffers, so they are weights: an agent that is loaded sees observations as it did in
    training. They change in `update` only, never in `forward`. They are float64 where the device has that (see
    `precision`), and are converted when the weights are loaded on another.

    Args:
        size: length of the input vectors.
        clip: normalised values are cut to [-clip, clip].
        device: where it is made, and stays.
    """

    mean: Tensor
    variance: Tensor
    number: Tensor

    def __init__(self, size: int, clip: float = 10.0, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.clip = clip
        dtype = precision(device)
        self.register_buffer("mean", torch.zeros(size, dtype=dtype, device=device))
        self.register_buffer("variance", torch.ones(size, dtype=dtype, device=device))
        self.register_buffer("number", torch.zeros((), dtype=dtype, device=device))

    @torch.no_grad()
    def update(self, inputs: Tensor) -> None:
        """Take inputs (batch, size) into the statistics."""
        batch = inputs.to(self.mean.dtype)
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
