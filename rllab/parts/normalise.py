"""Normalisation of inputs, whose statistics are saved with the model: running ones, and those of a training part."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rllab.parts.arrays import Numbers, as_array
from rllab.parts.returns import discounted_so_far


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
    def update(self, inputs: Numbers) -> None:
        """Take inputs (batch, size) into the statistics: a tensor, or an array."""
        statistics: list[Any] = [self.mean, self.variance, self.number]
        if isinstance(inputs, np.ndarray) and self.mean.device.type == "cpu":  # of the same memory
            batch: Any = inputs.astype(np.float64)
            mean, variance, number = (part.numpy() for part in statistics)
        else:
            batch = torch.as_tensor(inputs).to(self.mean)
            mean, variance, number = statistics
        n, before = len(batch), number + 0
        total = before + n
        center = batch.mean(0)
        delta = center - mean
        squares = variance * before + ((batch - center) ** 2).sum(0) + delta**2 * before * n / total
        mean += delta * n / total
        variance[:] = squares / total
        number += n

    def forward(self, inputs: Numbers) -> Numbers:
        """Return normalised inputs (batch, size) in float32: a tensor for a tensor, an array for an array."""
        if isinstance(inputs, np.ndarray):
            mean, variance = as_array(self.mean), as_array(self.variance)
            normal = (inputs - mean) / np.sqrt(variance + 1e-8)
            return normal.clip(-self.clip, self.clip).astype(np.float32)
        scaled = (inputs - self.mean) / (self.variance + 1e-8).sqrt()
        return scaled.clamp(-self.clip, self.clip).float()


class ReturnNormalizer(nn.Module):
    """Divides rewards by the running standard deviation of the discounted returns, so that values are of size 1.

    What varies is the discounted sum of the rewards so far in an episode, R_t = gamma R_(t-1) + r_t (Engstrom et al.,
    2020, section 3). The mean is not taken away: that would change which behaviour is best.

    The statistics are buffers, saved with the weights; acting does without them, and reported returns are of raw
    rewards.

    Args:
        gamma: the discount.
        clip: normalised rewards are cut to [-clip, clip].
        device: where the statistics are.
    """

    def __init__(self, gamma: float, clip: float = 10.0, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.gamma = gamma
        self.clip = clip
        self.statistics = RunningNormalizer(1, device=device)
        self.so_far: np.ndarray | float = 0.0  # (n,) sums of the episodes that go on

    def update(self, rewards: np.ndarray, ended: np.ndarray) -> None:
        """Take the next T steps of n environments into the statistics: rewards (T, n), ends of episodes (T, n)."""
        sums, self.so_far = discounted_so_far(rewards, ended, self.gamma, self.so_far)
        device = self.statistics.mean.device
        self.statistics.update(torch.as_tensor(sums.reshape(-1, 1), device=device))

    def scale(self, rewards: np.ndarray) -> np.ndarray:
        """Return rewards (T, n), normalised by the statistics as they are."""
        deviation = math.sqrt(float(self.statistics.variance) + 1e-8)
        scaled: np.ndarray = np.clip(rewards / deviation, -self.clip, self.clip)
        return scaled


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
