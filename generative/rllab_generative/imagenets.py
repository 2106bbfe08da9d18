"""Networks from images to numbers, and back: multilayer perceptrons, and convolutions.

    encoder   image (+ class) -> [convolutions] -> hidden layers -> numbers
    decoder   numbers (+ class) -> hidden layers in the opposite order -> [transposed convolutions] -> image

A class comes as a one-hot vector beside the numbers that enter the dense layers, as in Sohn, Lee & Yan, "Learning
Structured Output Representation using Deep Conditional Generative Models" (2015). Convolutions halve the image with
strides and leave pooling out, as in Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks" (2016); the decoder comes back to exactly the size of the image.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor, nn

from rllab.config import Config, flag, read_toml, to_text
from rllab.parts.networks import Activation, Convolution, activate, convolutions, mlp

NetworkName: TypeAlias = Literal["auto", "mlp", "cnn"]

_SMALL = 1024
"""Numbers in an image up to which `auto` takes the multilayer perceptron."""
_SMALLEST = 2
"""Pixels along a side below which no convolution goes: from 4 on it halves the image, below it keeps its size."""


def _some(channels: tuple[int, ...]) -> tuple[int, ...]:
    if not channels:
        raise ValueError("a cnn has at least one convolution; write the channels of each, such as 16,32")
    return channels


Channels: TypeAlias = Annotated[tuple[PositiveInt, ...], AfterValidator(_some)]


class ImageNetConfig(Config):
    """Hyperparameters of a pair of encoder and decoder."""

    network: NetworkName = "auto"
    """mlp, cnn, or auto: mlp for images of up to 1024 numbers, such as 28x28 grey pixels, and cnn for larger ones."""

    hidden: tuple[PositiveInt, ...] = (400,)
    """Units of the encoder's hidden layers (cnn: after the convolutions); the decoder has them the other way round."""

    channels: Channels = (32, 64)
    """Channels of the cnn's convolutions, each of which halves the image; the decoder has them the other way round."""

    activation: Activation = "relu"
    """What follows each hidden layer and each convolution but the last."""

    def kind(self, shape: Sequence[int]) -> Literal["mlp", "cnn"]:
        """Return which network is taken for images of a shape."""
        return kind(self.network, shape)


def kind(network: NetworkName, shape: Sequence[int]) -> Literal["mlp", "cnn"]:
    """Return which network is taken for images of a shape (channels, height, width)."""
    if network != "auto":
        return network
    return "mlp" if math.prod(shape) <= _SMALL else "cnn"


def unused(method: type, config: Any, shape: Sequence[int], belongs: Mapping[str, str]) -> str | None:
    """Return which option was changed though the network that is taken has no use for it; None: there is none.

    What a preset of the method says is no mistake: --network may have been typed over it.

    Args:
        method: the class, whose presets lie beside its file.
        config: its configuration, with a `network`.
        shape: of an image, (channels, height, width).
        belongs: options of one network alone, and which it is.
    """
    taken, fields = kind(config.network, shape), type(config).model_fields
    for name, network in belongs.items():
        value = getattr(config, name)
        if network == taken or value == fields[name].get_default(call_default_factory=True):
            continue
        file = Path(inspect.getfile(method)).with_suffix(".toml")
        presets = read_toml(file).values() if file.exists() else ()
        if value in [tuple(preset[name]) for preset in presets if name in preset]:
            continue
        typed = f"{flag(name)} {to_text(value)}"
        if config.network != "auto":
            return (
                f"{typed} is for --network {network}, and --network {taken} has no use for it;"
                f" leave out {flag(name)}, or write --network {network}"
            )
        size = "small" if taken == "mlp" else "large"
        return (
            f"{typed} is for --network {network}, and auto takes the {taken} for images this {size};"
            f" write --network {network}"
        )
    return None


class Halving(NamedTuple):
    """How a stack of convolutions shrinks an image."""

    layers: list[Convolution]
    sizes: list[tuple[int, int]]
    """Height and width before the first layer, and after each."""

    def turned(self, number: int, into: int, out: int, *, bias: bool = True) -> nn.ConvTranspose2d:
        """Return a layer turned round: a transposed convolution back to exactly the size that the layer shrank.

        Args:
            number: of the layer, from 0.
            into: channels that come in.
            out: channels that go out.
            bias: whether it has one.
        """
        layer = self.layers[number]
        high, wide = (
            large - ((little - 1) * layer.stride - 2 * layer.padding + layer.kernel)  # what rounding down took away
            for little, large in zip(self.sizes[number + 1], self.sizes[number], strict=True)
        )
        return nn.ConvTranspose2d(
            into, out, layer.kernel, layer.stride, layer.padding, output_padding=(high, wide), bias=bias
        )


def halving(shape: Sequence[int], channels: Sequence[int]) -> Halving:
    """Return convolutions that halve an image each, as long as both sides have pixels for it; then they keep its size.

    Args:
        shape: of an image, (channels, height, width).
        channels: of each layer.
    """
    layers, sizes = [], [(shape[1], shape[2])]
    for number in channels:
        halves = min(sizes[-1]) >= 2 * _SMALLEST
        layer = Convolution(number, kernel=4, stride=2, padding=1) if halves else Convolution(number, 3, padding=1)
        layers.append(layer)
        height, width = sizes[-1]
        sizes.append((layer.shrink(height)[0], layer.shrink(width)[0]))
    return Halving(layers, sizes)


class Encoder(nn.Module):
    """From images (and classes) to numbers.

    Args:
        config: what it is made of.
        shape: of an image, (channels, height, width).
        outputs: how many numbers.
        classes: how many, if it is told the class; else 0.
    """

    def __init__(self, config: ImageNetConfig, shape: Sequence[int], outputs: int, classes: int = 0) -> None:
        super().__init__()
        self.convolutions: nn.Sequential | None = None
        features = math.prod(shape)
        if config.kind(shape) == "cnn":
            layers, sizes = halving(shape, config.channels)
            self.convolutions = nn.Sequential(*convolutions(shape[0], layers, config.activation))
            features = config.channels[-1] * math.prod(sizes[-1])
        self.dense = mlp(features + classes, config.hidden, outputs, config.activation)

    def forward(self, images: Tensor, hot: Tensor | None = None) -> Tensor:
        """Return numbers (B, outputs) for images (B, *shape) and one-hot classes (B, classes)."""
        if self.convolutions is not None:
            images = self.convolutions(channels_last(images)).permute(0, 2, 3, 1)  # (B, h, w, C), as it lies in memory
        features = images.flatten(1)
        outputs: Tensor = self.dense(features if hot is None else torch.cat([features, hot], 1))
        return outputs


class Decoder(nn.Module):
    """From numbers (and classes) to images; nothing is applied to what comes out of the last layer.

    Args:
        config: what it is made of.
        inputs: how many numbers.
        shape: of an image, (channels, height, width).
        classes: how many, if it is told the class; else 0.
    """

    def __init__(self, config: ImageNetConfig, inputs: int, shape: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.convolutions: nn.Sequential | None = None
        features = math.prod(shape)
        if config.kind(shape) == "cnn":
            halved = halving(shape, config.channels)
            self.small = (*halved.sizes[-1], config.channels[-1])
            features = math.prod(self.small)
            made: list[nn.Module] = []
            for number, (out, into) in reversed(list(enumerate(pairwise([shape[0], *config.channels])))):
                made += [activate(config.activation), halved.turned(number, into, out)]
            self.convolutions = nn.Sequential(*made)
        self.dense = mlp(inputs + classes, config.hidden[::-1], features, config.activation)

    def forward(self, numbers: Tensor, hot: Tensor | None = None) -> Tensor:
        """Return images (B, *shape) for numbers (B, inputs) and one-hot classes (B, classes)."""
        features: Tensor = self.dense(numbers if hot is None else torch.cat([numbers, hot], 1))
        if self.convolutions is None:
            return features.view(-1, *self.shape)
        images: Tensor = self.convolutions(features.view(-1, *self.small).permute(0, 3, 1, 2))  # channels last
        return images


def channels_last(images: Tensor) -> Tensor:
    """Return images with the channels of a pixel side by side, which makes convolutions twice as fast on the CPU.

    Of one channel, torch sees this by its stride alone.
    """
    number, channels, height, width = images.shape
    if channels == 1:
        return images.reshape(number, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def multiply_adds_of_pair(
    config: ImageNetConfig, shape: Sequence[int], outputs: int, inputs: int, classes: int = 0
) -> float:
    """Return the multiply-adds of a forward pass of one image through an encoder and a decoder.

    Args:
        config: what they are made of.
        shape: of an image, (channels, height, width).
        outputs: of the encoder.
        inputs: of the decoder.
        classes: how many, if both are told the class; else 0.
    """
    features, total = math.prod(shape), 0.0
    if config.kind(shape) == "cnn":
        layers, sizes = halving(shape, config.channels)
        for layer, (into, out), size in zip(layers, pairwise([shape[0], *config.channels]), sizes[1:], strict=True):
            total += 2.0 * into * out * layer.kernel**2 * math.prod(size)
        features = config.channels[-1] * math.prod(sizes[-1])
    for widths in ([features + classes, *config.hidden, outputs], [inputs + classes, *config.hidden[::-1], features]):
        total += sum(into * out for into, out in pairwise(widths))
    return total
