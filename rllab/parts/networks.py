"""Networks: multilayer perceptrons, stacks of convolutions, and what turns observations into their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from rllab.parts.arrays import Numbers
from rllab.parts.backprop import MLP as MLP
from rllab.parts.backprop import infer as infer

Activation: TypeAlias = Literal["relu", "tanh", "elu", "sigmoid", "softplus", "linear"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}


def activate(activation: Activation) -> nn.Module:
    """Return an activation by its name."""
    return _ACTIVATIONS[activation]()


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: Activation = "relu", dropout: float = 0.0
) -> nn.Sequential:
    """Return a multilayer perceptron (batch, inputs) -> (batch, outputs); no activation after the last layer.

    Args:
        inputs: numbers in an input.
        hidden: units of the hidden layers.
        outputs: numbers in an output.
        activation: what follows each hidden layer.
        dropout: share of the hidden units that is dropped in training (Srivastava et al., 2014).
    """
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return MLP(*layers, nn.Linear(sizes[-1], outputs))


class Convolution(NamedTuple):
    """A layer of a stack of convolutions: its channels, and the side of its kernel, its step and so on, in pixels."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pooling: int = 1
    """Side of the squares of which one value is kept; 1: no pooling."""

    def shrink(self, size: int) -> tuple[int, int]:
        """Return what becomes of `size` pixels by the convolution, and then by pooling; below 1 if it cannot be."""
        convolved = (size + 2 * self.padding - self.kernel) // self.stride + 1
        return convolved, convolved // self.pooling


def convolutions(
    channels: int,
    layers: Sequence[Convolution],
    activation: Activation = "relu",
    *,
    average: bool = False,
    batch_norm: bool = False,
) -> list[nn.Module]:
    """Return a stack of convolutions (batch, channels, height, width) -> (batch, channels', height', width').

    The highest of some values stays the highest under an activation that never falls, as all of ours are: max
    pooling comes before it, which then has fewer values to work on.

    Args:
        channels: of the input.
        layers: one after the other.
        activation: what follows each.
        average: pool by the mean instead of the highest value.
        batch_norm: normalise each channel over the batch before the activation (Ioffe & Szegedy, 2015).
    """
    made: list[nn.Module] = []
    for layer in layers:
        # what normalising subtracts would take away a bias
        made.append(nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=not batch_norm))
        made += [nn.BatchNorm2d(layer.channels)] if batch_norm else []
        pool = [(nn.AvgPool2d if average else nn.MaxPool2d)(layer.pooling)] if layer.pooling > 1 else []
        activate = [_ACTIVATIONS[activation]()]
        made += [*activate, *pool] if average else [*pool, *activate]
        channels = layer.channels
    return made


NetworkName: TypeAlias = Literal["auto", "mlp", "cnn"]

SMALLEST_IMAGE = 36
"""Pixels of the shorter side of an image that the Nature CNN can look at; smaller ones are flattened."""


def image_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes of an image's channels, then those of its height and width; None if it is none, or too small.

    Channels come first or last: last where that side is the shortest. A stack of images has its own axis first.

    Args:
        shape: (height, width), (channels, height, width), (height, width, channels), or (stack, *one of the latter).
    """
    first = len(shape) - 3  # the axis with which the last three begin
    if len(shape) not in {2, 3, 4}:
        return None
    if len(shape) == 2:
        axes: tuple[int, ...] = (0, 1)
    elif shape[-1] < min(shape[first], shape[first + 1]):
        axes = (*range(first), first + 2, first, first + 1)
    else:
        axes = tuple(range(len(shape)))
    return axes if min(shape[axis] for axis in axes[-2:]) >= SMALLEST_IMAGE else None


class Observations(nn.Module):
    """Turns a batch of observations of a space into what a network takes, in float32.

    Images (uint8, at least 36 pixels high and wide) become (batch, channels, height, width); the images of a stack
    lie behind one another as channels. Everything else becomes vectors (batch, size): boxes are flattened; discrete
    spaces, also those that start elsewhere than 0, become one-hot. Bytes up to 255 are divided by 255.

    Args:
        space: of one observation.
        network: what looks at them: mlp, for which images are flattened, cnn, or auto, by the space.

    Attributes:
        shape: of one observation as the network takes it: (size,) or (channels, height, width).
        size: the product of it.
        is_image: whether it is an image.

    Raises:
        ValueError: for a space it cannot handle; ask `refusal` first.
    """

    def __init__(self, space: spaces.Space[Any], network: NetworkName = "auto") -> None:
        super().__init__()
        if (reason := self.refusal(space, network)) is not None:
            raise ValueError(reason)
        self.space = space
        self.size = spaces.flatdim(space)
        self.shape: tuple[int, ...] = (self.size,)
        self.is_image = _is_image(space, network)
        self._bytes = isinstance(space, spaces.Box) and space.dtype == np.uint8 and int(space.high.max()) == 255
        if self.is_image:
            assert isinstance(space, spaces.Box)
            self._axes = image_axes(space.shape) or ()
            height, width = (space.shape[axis] for axis in self._axes[-2:])
            self.shape = (self.size // (height * width), height, width)

    @staticmethod
    def refusal(space: spaces.Space[Any], network: NetworkName = "auto", *, normalize: bool = False) -> str | None:
        """Return why a network cannot look at a space, or None if it can.

        Args:
            space: of one observation.
            network: as for the constructor.
            normalize: whether running statistics shall normalise what it gives, which are those of a vector.
        """
        if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return f"it takes Box, Discrete, MultiDiscrete and MultiBinary observations, not {type(space).__name__}"
        if network == "cnn" and not _is_image(space, network):
            pixels = f"{SMALLEST_IMAGE} x {SMALLEST_IMAGE}"
            return f"--network cnn takes images of {pixels} pixels and more, not {space}; leave it out, or say mlp"
        if normalize and _is_image(space, network):
            return (
                "--normalize-observations is for vectors, and the observations are images, which are divided by 255 "
                "anyway; leave it out, or flatten them by --network mlp"
            )
        return None

    def forward(self, observations: Numbers) -> Numbers:
        """Return (batch, *shape) float32 for observations (batch, *shape of the space): an array for an array."""
        if isinstance(observations, np.ndarray):
            if isinstance(self.space, spaces.Box) and not self.is_image and not self._bytes:
                return observations.reshape(len(observations), self.size).astype(np.float32, copy=False)
            return self.forward(torch.from_numpy(observations)).numpy()
        match self.space:
            case spaces.Discrete(n=n, start=start):
                return nn.functional.one_hot(observations.long() - int(start), int(n)).float()
            case spaces.MultiDiscrete(nvec=nvec, start=start):
                offsets = torch.as_tensor(start, device=observations.device).flatten()
                columns = observations.long().flatten(1) - offsets
                hot = [nn.functional.one_hot(columns[:, i], int(n)) for i, n in enumerate(nvec.flatten())]
                return torch.cat(hot, 1).float()
        if self.is_image:
            observations = observations.permute(0, *(axis + 1 for axis in self._axes))
        floats = observations.reshape(len(observations), *self.shape).float()  # numbers, too: a Box of shape ()
        return floats.div_(255) if self._bytes else floats


def _is_image(space: spaces.Space[Any], network: NetworkName) -> bool:
    if not isinstance(space, spaces.Box) or network == "mlp" or image_axes(space.shape) is None:
        return False
    return network == "cnn" or space.dtype == np.uint8  # floats of that shape may be anything
