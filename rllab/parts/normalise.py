"""Normalisation of inputs, whose statistics are saved with the model: running ones, and those of a training part."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

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


Scaling: TypeAlias = Literal["none", "minmax", "standard", "center"]


class Scaler(nn.Module):
    """Scales inputs by what the training part is like; its numbers are saved with the weights.

    Images of uint8 count as one feature, and are first divided by 255, which is all that minmax does to them; any
    other input has one feature a column.

    Args:
        inputs: (N, *shape) of the training part.
        how: none, minmax (to [0, 1]), standard (mean 0, standard deviation 1) or center (mean 0).
    """

    shift: Tensor
    factor: Tensor

    def __init__(self, inputs: Tensor, how: Scaling) -> None:
        super().__init__()
        shift, factor = _images(inputs, how) if inputs.dtype is torch.uint8 else _columns(inputs, how)
        self.register_buffer("shift", shift)
        self.register_buffer("factor", factor)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, *shape) as float32, scaled."""
        return (inputs - self.shift) * self.factor


def _images(inputs: Tensor, how: Scaling) -> tuple[Tensor, Tensor]:
    shift, factor = torch.tensor(0.0), torch.tensor(1 / 255)
    if how in {"center", "standard"}:
        total = squares = 0.0
        for chunk in torch.split(inputs.flatten(), 1 << 18):  # as float32 they take four times the room
            values = chunk.float()
            total += float(values.sum(dtype=torch.float64))
            squares += float(values.square_().sum(dtype=torch.float64))
        mean = total / inputs.numel()
        deviation = math.sqrt(max(squares / inputs.numel() - mean**2, 0.0))
        shift = torch.tensor(mean)
        factor = torch.tensor(1 / max(deviation, 1e-12)) if how == "standard" else factor
    return shift, factor


def _columns(inputs: Tensor, how: Scaling) -> tuple[Tensor, Tensor]:
    shift, factor = torch.zeros(inputs.shape[1:]), torch.ones(inputs.shape[1:])
    if how == "minmax":
        low, high = inputs.amin(0), inputs.amax(0)
        shift, factor = low, torch.where(high > low, 1 / (high - low).clamp(min=1e-12), factor)
    if how in {"center", "standard"}:
        shift = inputs.double().mean(0).float()
    if how == "standard":
        deviation = inputs.double().std(0, correction=0).float()
        factor = torch.where(deviation > 0, 1 / deviation.clamp(min=1e-12), factor)
    return shift, factor
