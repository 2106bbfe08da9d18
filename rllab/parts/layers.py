"""What a network is made of: its layers with their shapes, parameters, receptive fields and multiply-adds.

A network is a sequence here. An image of side n that goes through a layer with a kernel of side k and a stride of s
comes out with about n / s pixels. One of them sees r pixels of the first image, its receptive field; its neighbour sees
those j pixels further on:

    r <- r + (k - 1) j,   j <- j s,   with r = j = 1 at the start
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_NAMES: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "dense",
    nn.BatchNorm2d: "batch norm",
    nn.MaxPool2d: "max pooling",
    nn.AvgPool2d: "average pooling",
    nn.Identity: "linear",
}


class Layer(NamedTuple):
    """A row of a network's table.

    Attributes:
        name: its kind, numbered where there are several of it.
        shape: of its output for one input.
        parameters: how many numbers in it are trained.
        receptive_field: side of the square of the input that one of its outputs sees, for layers of images.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    receptive_field: int | None


def layers(network: nn.Sequential, inputs: Tensor) -> list[Layer]:
    """Return a network layer by layer; the first row is the input.

    Args:
        network: a sequence.
        inputs: (1, *shape), of whatever values.
    """
    found = [Layer("input", tuple(inputs.shape[1:]), 0, 1 if inputs.dim() == 4 else None)]
    field, jump = 1, 1
    for name, layer, outputs in walk(network, inputs):
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            field += (_side(layer.kernel_size) - 1) * jump
            jump *= _side(layer.stride)
        parameters = sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)
        found.append(Layer(name, tuple(outputs.shape[1:]), parameters, field if outputs.dim() == 4 else None))
    return found


@torch.no_grad()
def walk(network: nn.Sequential, inputs: Tensor) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield name, module and outputs of each layer, for inputs (n, *shape); it draws nothing and changes nothing."""
    names = _names(network)
    modes = [part.training for part in network.modules()]
    network.eval()
    try:
        for name, layer in zip(names, network, strict=True):
            inputs = layer(inputs)
            yield name, layer, inputs
    finally:
        for part, mode in zip(network.modules(), modes, strict=True):
            part.training = mode


def multiply_adds(network: nn.Sequential, inputs: Tensor) -> int:
    """Return the multiply-adds of a forward pass of one input; `inputs` (1, *shape) may be on the device "meta"."""
    total = 0
    for _, layer, outputs in walk(network, inputs):
        weights = sum(parameter.numel() for parameter in layer.parameters() if parameter.dim() > 1)
        if isinstance(layer, nn.Conv2d):
            total += weights * int(torch.Size(outputs.shape[2:]).numel())
        elif inputs.dim() == 3 and not isinstance(layer, nn.Linear):  # the cells of a sequence, once a step
            total += weights * inputs.shape[1]
        else:
            total += weights
    return total


def _names(network: nn.Sequential) -> list[str]:
    """Return what the layers are called: "conv1", "relu1", ..., the last one "output"."""
    kinds = [getattr(layer, "kind", None) or _NAMES.get(type(layer), type(layer).__name__.lower()) for layer in network]
    names = []
    for number, kind in enumerate(kinds):
        before = kinds[:number].count(kind) + 1
        names.append(f"{kind} {before}" if " " in kind else f"{kind}{before}")
    return [*names[:-1], "output"]


def _side(value: Any) -> int:
    return int(value[0]) if isinstance(value, tuple) else int(value)
