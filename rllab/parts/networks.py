"""Networks: multilayer perceptrons, stacks of convolutions, and what turns observations into their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

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


class MLP(nn.Sequential):
    """Layers one after the other, without the hooks of each.

    For a small batch, what a module does around its `forward` takes as long as the multiplication in it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (batch, outputs) for inputs (batch, inputs)."""
        for layer in self:
            input = layer.forward(input)
        return input


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


def infer(network: nn.Module, inputs: Tensor) -> np.ndarray:
    """Return the outputs of a network as an array (batch, outputs), without a graph, to act on.

    A few rows on the CPU go through an MLP in NumPy, on the same weights: what torch does around one of these
    multiplications takes longer than it.
    """
    if len(inputs) <= _FEW and inputs.device.type == "cpu" and (layers := _in_numpy(network)):
        h: np.ndarray = inputs.numpy(force=True)
        with np.errstate(all="ignore"):  # a weight that is not finite is found where it arises
            for weights, bias, activation in layers:
                h = h @ weights
                h += bias
                activation(h)
        return h
    with torch.no_grad():
        outputs: np.ndarray = network(inputs).cpu().numpy()
    return outputs


_FEW = 8
"""Rows up to which NumPy is faster."""

_IN_PLACE: dict[type[nn.Module], Callable[[np.ndarray], object]] = {
    nn.ReLU: lambda h: np.maximum(h, 0, out=h),
    nn.Tanh: lambda h: np.tanh(h, out=h),
    nn.Identity: lambda h: h,
}

_Layers: TypeAlias = list[tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], object]]]
_views: WeakKeyDictionary[nn.Module, tuple[int, _Layers]] = WeakKeyDictionary()


def _in_numpy(network: nn.Module) -> _Layers:
    """Return views of the layers of an MLP: transposed weights, biases, activations; none for other networks."""
    if type(network) is not MLP or not isinstance(first := network[0], nn.Linear):  # a subclass may do otherwise
        return []
    address = first.weight.data_ptr()  # where an optimiser lays the weights side by side, they move
    seen, layers = _views.get(network, (0, []))
    if seen != address:
        layers = []
        for linear, activation in zip([*network][0::2], [*network, nn.Identity()][1::2], strict=True):
            if type(linear) is not nn.Linear or linear.bias is None or type(activation) not in _IN_PLACE:
                layers = []
                break
            arrays = linear.weight.detach().numpy().T, linear.bias.detach().numpy()
            layers.append((*arrays, _IN_PLACE[type(activation)]))
        _views[network] = address, layers
    return layers


class Observations(nn.Module):
    """Turns a batch of observations of a space into float vectors (batch, size).

    Boxes are flattened; discrete spaces, also those that start elsewhere than 0, become one-hot vectors.

    Raises:
        ValueError: for a space it cannot handle; ask `refusal` first.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        if (reason := self.refusal(space)) is not None:
            raise ValueError(reason)
        self.space = space
        self.size = spaces.flatdim(space)

    @staticmethod
    def refusal(space: spaces.Space[Any]) -> str | None:
        """Return why a space cannot become a vector, or None if it can."""
        if isinstance(space, spaces.Box):
            image = len(space.shape) == 3 and space.dtype == np.uint8 and min(sorted(space.shape)[1:]) >= 36
            return f"it takes vectors, and the observations are images of {space.shape}" if image else None
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return None
        return f"it takes Box, Discrete, MultiDiscrete and MultiBinary observations, not {type(space).__name__}"

    def forward(self, observations: Tensor) -> Tensor:
        """Return (batch, size) float32 for observations (batch, *shape)."""
        match self.space:
            case spaces.Discrete(n=n, start=start):
                return nn.functional.one_hot(observations.long() - int(start), int(n)).float()
            case spaces.MultiDiscrete(nvec=nvec, start=start):
                offsets = torch.as_tensor(start, device=observations.device).flatten()
                columns = observations.long().flatten(1) - offsets
                hot = [nn.functional.one_hot(columns[:, i], int(n)) for i, n in enumerate(nvec.flatten())]
                return torch.cat(hot, 1).float()
        return observations.reshape(len(observations), self.size).float()  # numbers, too: a Box of shape ()
