"""CNN: a convolutional network.

LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998).

    repeat for each of the layers
        convolve the image with the layer's kernels, pool squares of pixels, apply the activation
    flatten, and go on as a multilayer perceptron
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from rllab.data import DatasetTask
from rllab.parts.networks import Activation, Convolution, convolutions, mlp
from rllab.supervised import refuses_shape
from rllab_supervised.network import NetworkConfig, NetworkModel


class CNNConfig(NetworkConfig):
    """Hyperparameters of a convolutional network (LeCun et al., 1998).

    Those of the convolutions are one for all of them, or one for each.
    """

    channels: tuple[PositiveInt, ...] = (16, 32)
    """Kernels of the convolutions, each of which makes a channel."""

    kernel: tuple[PositiveInt, ...] = (3,)
    """Side of the kernels, in pixels; one for all convolutions, or one for each."""

    stride: tuple[PositiveInt, ...] = (1,)
    """Pixels from one place of a kernel to the next; one for all, or one for each."""

    padding: tuple[NonNegativeInt, ...] = (1,)
    """Pixels of zeros around the image; half the kernel keeps its size; one for all, or one for each."""

    pooling: tuple[PositiveInt, ...] = (2,)
    """Side of the squares that are pooled, 1: no pooling; one for all, or one for each."""

    pool: Literal["max", "average"] = "max"
    """What is kept of a square: the highest value, or the mean."""

    batch_norm: bool = False
    """Normalise each channel over the batch (Ioffe & Szegedy, 2015)."""

    hidden: tuple[PositiveInt, ...] = (64,)
    """Units of the hidden layers after the convolutions; none: they go to the outputs."""

    activation: Activation = "relu"
    """What follows each convolution and each hidden layer."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if not self.channels:
            raise ValueError("--channels none: a network without convolutions is what `mlp` trains")
        for name in ("kernel", "stride", "padding", "pooling"):
            if (number := len(getattr(self, name))) not in {1, len(self.channels)}:
                raise ValueError(
                    f"--{name} has {number} values, and --channels {len(self.channels)}: write one, or as many"
                )
        return self

    @property
    def convolutions(self) -> list[Convolution]:
        """Return the convolutions one by one."""
        number = len(self.channels)
        several = (self.kernel, self.stride, self.padding, self.pooling)
        columns = [values if len(values) == number else values * number for values in several]
        return [Convolution(*values) for values in zip(self.channels, *columns, strict=True)]


class CNN(NetworkModel):
    """Convolutions, and a multilayer perceptron that looks at what they found."""

    Config = CNNConfig
    config: CNNConfig

    @classmethod
    def refusal(cls, config: CNNConfig, task: DatasetTask) -> str | None:
        """Return why it cannot see the inputs: they are no images, or the layers leave nothing of them."""
        if reason := super().refusal(config, task) or refuses_shape(task, 3, "images"):
            return reason
        size, convolved = task.shape[1:], [0]
        for number, layer in enumerate(config.convolutions, 1):
            convolved, pooled = ([layer.shrink(pixels)[i] for pixels in size] for i in (0, 1))
            if min(convolved) < 1:
                kernel = f"a kernel of {layer.kernel}x{layer.kernel} pixels"
                what = f"convolution {number} has {kernel}, and {_text(size)} are left"
                return f"{what} of the image; take a smaller --kernel, less --pooling or more --padding"
            if min(pooled) < 1:
                what = f"convolution {number} pools {layer.pooling}x{layer.pooling} pixels"
                return f"{what}, and {_text(convolved)} are left; take less --pooling, such as 1 for none"
            size = tuple(pooled)
        if config.batch_norm and max(convolved) == 1 and len(task.data.train) % config.batch_size == 1:
            return "a batch of one image with one pixel left cannot be normalised; take another --batch-size"
        return None

    @classmethod
    def build(cls, config: CNNConfig, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """Return the convolutions and the dense layers."""
        channels, *size = shape
        for layer in config.convolutions:
            channels, size = layer.channels, [layer.shrink(pixels)[1] for pixels in size]
        average = config.pool == "average"
        stack = convolutions(
            shape[0], config.convolutions, config.activation, average=average, batch_norm=config.batch_norm
        )
        numbers = channels * size[0] * size[1]
        drop = [nn.Dropout(config.dropout)] if config.dropout else []
        dense = mlp(numbers, config.hidden, outputs, config.activation, config.dropout)
        return nn.Sequential(*stack, nn.Flatten(), *drop, *dense)

    @staticmethod
    def arrange(inputs: Tensor) -> Tensor:
        """Return images with the channels of a pixel side by side, which is twice as fast on the CPU.

        Of one channel, torch sees this by its stride alone.
        """
        number, channels, height, width = inputs.shape
        if channels == 1:
            return inputs.reshape(number, height, width, 1).permute(0, 3, 1, 2)
        return inputs.contiguous(memory_format=torch.channels_last)

    def filters(self) -> Tensor:
        """Return the kernels of the first convolution: (kernels, channels, height, width)."""
        first = self.network[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()


def _text(size: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, size))
