"""The two networks of a GAN: a generator, and a discriminator that is its mirror image.

    mlp   z -> dense, leaky ReLU, ... -> dense, tanh = image          image -> dense, leaky ReLU, ... -> dense = logits
    cnn   z -> dense -> small image -> twice the size, ... = image    image -> half the size, ... -> dense = logits

The convolutional ones are those of DCGAN with its advice: strides instead of pooling, batch normalisation and ReLU in
the generator, leaky ReLU in the discriminator (Radford, Metz & Chintala, "Unsupervised representation learning with
deep convolutional generative adversarial networks", ICLR 2016). The discriminator normalises nothing: it is shown real
and drawn images in one batch, whose statistics would mix them.

Images are in [-1, 1] on this side, (B, channels, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from rllab_generative.imagenets import channels_last, halving

SLOPE = 0.2
"""Of leaky ReLU below 0, as in DCGAN."""


class Images(nn.Module):
    """Makes images of vectors that list them pixel by pixel, or takes images as they are; channels last in memory.

    Args:
        shape: of an image, (channels, height, width).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Return images (B, *shape) for vectors (B, numbers) or images (B, *shape)."""
        if inputs.dim() == 2:
            channels, height, width = self.shape
            return inputs.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return channels_last(inputs)


# --- multilayer perceptrons -----------------------------------------------------------------------


def mlp_generator(inputs: int, hidden: Sequence[int], shape: tuple[int, ...]) -> nn.Sequential:
    """Return a network (B, inputs) -> (B, *shape); `hidden` has its layers from the last to the first."""
    sizes = [inputs, *reversed(hidden)]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))


def mlp_discriminator(shape: tuple[int, ...], hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Return a network (B, *shape) -> (B, outputs)."""
    sizes = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(SLOPE), *_dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


# --- convolutions ---------------------------------------------------------------------------------


def cnn_generator(inputs: int, channels: Sequence[int], shape: tuple[int, ...]) -> nn.Sequential:
    """Return a network (B, inputs) -> (B, *shape); each convolution doubles the size of the image.

    Args:
        inputs: numbers that come in.
        channels: of the images on the way, from the largest to the smallest.
        shape: of an image.
    """
    halved = halving(shape, channels)
    small = (channels[-1], *halved.sizes[-1])
    # no biases where batch normalisation would take them away
    layers: list[nn.Module] = [nn.Linear(inputs, math.prod(small), bias=False), Images(small)]
    for number, (out, into) in reversed(list(enumerate(pairwise([shape[0], *channels])))):
        layers += [nn.BatchNorm2d(into), nn.ReLU(), halved.turned(number, into, out, bias=number == 0)]
    return nn.Sequential(*layers, nn.Tanh())


def cnn_discriminator(shape: tuple[int, ...], channels: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Return a network (B, *shape) -> (B, outputs); each convolution halves the size of the image."""
    steps, sizes = halving(shape, channels)
    layers: list[nn.Module] = [Images(shape)]
    for step, (into, out) in zip(steps, pairwise([shape[0], *channels]), strict=True):
        layers += [nn.Conv2d(into, out, step.kernel, step.stride, step.padding), nn.LeakyReLU(SLOPE)]
    # dropout between the convolutions would take a quarter of the time of a step
    return nn.Sequential(
        *layers, nn.Flatten(), *_dropout(dropout), nn.Linear(channels[-1] * math.prod(sizes[-1]), outputs)
    )


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
