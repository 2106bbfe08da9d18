"""The multilayer perceptron, and backpropagation through it, written out (Rumelhart, Hinton & Williams, 1986).

    forward    h_0 = x,  h_l = f(W_l h_(l-1) + b_l),  and no f at the last layer
    backward   g_L = dloss/doutputs,  dW_l = g_l' h_(l-1),  db_l = sum of g_l,  g_(l-1) = (g_l W_l) * f'(h_(l-1))

Autograd does the same sums in another order, so that the last bits differ. For small networks and batches, what it
keeps beside them (a graph, a node for each operation, a tensor for each gradient), and what torch does around each
operation, takes several times as long as the sums. Here NumPy does them, on the memory of the parameters.

A whole perceptron as one node of autograd's graph does not pay: for 64x64 units its engine's part remains, and takes
longer than all else together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from rllab.parts.arrays import as_array


class _Activation(NamedTuple):
    """A function that may overwrite its argument, and how a gradient by h = f(z) becomes one by z."""

    f: Callable[[np.ndarray], np.ndarray]
    """z to f(z)"""
    back: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """The gradient by h, which it may overwrite, and h; to that by z"""


_MANY = 1 << 13
"""Numbers from which on torch's ReLU is faster than NumPy's, for 65,536 of them by eight times."""


def _relu(z: np.ndarray) -> np.ndarray:
    if z.size < _MANY:
        np.maximum(z, 0, out=z)
    else:
        torch.relu_(torch.from_numpy(z))
    return z


def _relu_back(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    if g.size < _MANY:
        np.multiply(g, h > 0, out=g)
    else:
        tensor = torch.from_numpy(g)
        torch.ops.aten.threshold_backward.grad_input(tensor, torch.from_numpy(h), 0, grad_input=tensor)
    return g


ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.ReLU: _Activation(_relu, _relu_back),
    nn.Tanh: _Activation(lambda z: np.tanh(z, out=z), lambda g, h: np.multiply(g, 1 - h * h, out=g)),
    nn.Sigmoid: _Activation(lambda z: _half(np.tanh(_half(z, 0), out=z), 1), lambda g, h: g * (h * (1 - h))),
    nn.ELU: _Activation(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda g, h: g * (np.minimum(h, 0) + 1)
    ),
    nn.Softplus: _Activation(lambda z: np.logaddexp(z, 0, out=z), lambda g, h: g * -np.expm1(-h)),  # 1 - exp(-h)
    nn.Identity: _Activation(lambda z: z, lambda g, h: g),
}
"""What may lie between the layers."""


def _half(z: np.ndarray, add: int) -> np.ndarray:
    """Return (z + add) / 2, in place: sigmoid(z) = (tanh(z / 2) + 1) / 2, where no exponential can overflow."""
    z += add
    z *= 0.5
    return z


class Layer(NamedTuple):
    """A linear layer and what follows it; None: nothing does."""

    weights: np.ndarray
    """(outputs, inputs) float32"""
    transposed: np.ndarray
    """(inputs, outputs), a view"""
    biases: np.ndarray
    """(outputs,) float32"""
    activation: _Activation | None


def forward(layers: Sequence[Layer], inputs: np.ndarray) -> list[np.ndarray]:
    """Return what goes into each layer, (B, inputs of it), and at last the outputs, (B, outputs)."""
    passed, h = [inputs], inputs
    with np.errstate(all="ignore"):  # a number that is not finite is found where a loss is
        for _, transposed, biases, activation in layers:
            h = np.dot(h, transposed)
            h += biases
            if activation is not None:
                h = activation.f(h)
            passed.append(h)
    return passed


def backward(
    layers: Sequence[Layer],
    passed: Sequence[np.ndarray],
    gradient: np.ndarray,
    by_parameters: Sequence[np.ndarray] | None,
    *,
    by_inputs: bool = False,
) -> np.ndarray | None:
    """Fill in the gradients by the parameters, from that by the outputs.

    Args:
        layers: of the network.
        passed: what `forward` returned.
        gradient: (B, outputs) float32, which stays as it is.
        by_parameters: to be filled: weights and biases, layer by layer; None: not asked for.
        by_inputs: whether the gradient by the inputs is asked for.

    Returns:
        The gradient by the inputs, (B, inputs), or None if it was not asked for.
    """
    ones = np.ones(len(gradient), np.float32)
    with np.errstate(all="ignore"):
        for i in range(len(layers) - 1, -1, -1):
            h = passed[i]
            if by_parameters is not None:
                np.dot(gradient.T, h, out=by_parameters[2 * i])
                np.dot(ones, gradient, out=by_parameters[2 * i + 1])
            if i > 0:
                activation = layers[i - 1].activation
                assert activation is not None
                gradient = activation.back(np.dot(gradient, layers[i].weights), h)
        return np.dot(gradient, layers[0].weights) if by_inputs else None


class MLP(nn.Sequential):
    """Layers one after the other, without the hooks of each.

    For a small batch, what a module does around its `forward` takes as long as the multiplication in it.
    """

    def forward(self, input: Any) -> Any:
        """Return (batch, outputs) for inputs (batch, inputs): a tensor for a tensor, an array for an array."""
        if isinstance(input, np.ndarray):
            if (layers := in_numpy(self)) is None:
                raise TypeError("this network takes tensors; `infer` takes arrays for any network")
            return forward(layers, input)[-1]
        for layer in self:
            input = layer.forward(input)
        return input


class _Seen(NamedTuple):
    modules: list[nn.Module]
    addresses: list[int]
    layers: list[Layer] | None


_seen: WeakKeyDictionary[nn.Module, _Seen] = WeakKeyDictionary()


def in_numpy(network: nn.Module) -> list[Layer] | None:
    """Return the layers of a perceptron as arrays that share the memory of its parameters; None for anything else.

    It has to be an `MLP` on the CPU in float32: linear layers with biases, and one of our activations between each two.
    """
    if type(network) is not MLP:  # a subclass may do otherwise
        return None
    # a layer may have been replaced; and where an optimiser lays the weights side by side, they move
    modules: list[Any] = list(network._modules.values())
    seen = _seen.get(network)
    addresses = [p.data_ptr() for p in _parameters(network)]
    if seen is None or seen.addresses != addresses or seen.modules != modules:
        seen = _seen[network] = _Seen(modules, addresses, _layers(modules))
    return seen.layers


def _parameters(network: nn.Module) -> list[Any]:
    """Return weights and biases, layer by layer: `network.parameters()` takes longer than a small network."""
    modules: list[Any] = list(network._modules.values())
    return [p for module in modules for p in module._parameters.values() if p is not None]


def _layers(modules: list[nn.Module]) -> list[Layer] | None:
    """Return what `backprop` needs of linear layers and activations in turn; None if they are something else."""
    layers: list[Layer] = []
    for linear, activation in zip(modules[0::2], [*modules[1::2], None], strict=len(modules) % 2 == 1):
        if type(linear) is not nn.Linear or linear.bias is None or linear in modules[: 2 * len(layers)]:
            return None
        if any(type(p) is not nn.Parameter or p.dtype is not torch.float32 for p in linear._parameters.values()):
            return None
        if linear.weight.device.type != "cpu":
            return None
        found = ACTIVATIONS.get(type(activation))  # type: ignore[arg-type]  # None is in there neither
        if (found is None) != (activation is None):
            return None
        weights, biases = linear.weight.detach().numpy(), linear.bias.detach().numpy()
        layers.append(Layer(weights, weights.T, biases, found))
    return layers if len(modules) % 2 == 1 else None


def infer(network: nn.Module, inputs: Tensor | np.ndarray) -> np.ndarray:
    """Return the outputs of a network as an array (batch, outputs), without a graph, to act on.

    Arrays, and a few rows of a tensor on the CPU, go through an `MLP` in NumPy.
    """
    few = isinstance(inputs, np.ndarray) or (inputs.shape[0] <= _FEW and inputs.device.type == "cpu")
    if few and (layers := in_numpy(network)) is not None:
        return forward(layers, as_array(inputs))[-1]
    if isinstance(inputs, np.ndarray):
        first = next(network.parameters(), None)
        inputs = torch.from_numpy(inputs).to("cpu" if first is None else first.device)
    with torch.no_grad():
        outputs: np.ndarray = network(inputs).cpu().numpy()
    return outputs


_FEW = 64
"""Rows up to which NumPy is as fast or faster, whatever the activation."""


class Passes(Protocol):
    """The two passes of a network; the gradient goes straight to where the optimiser wants it."""

    takes_arrays: bool
    """Whether `forward` and `backward` take arrays as well as tensors."""

    @property
    def forward(self) -> Callable[..., Any]:
        """Returns the outputs, without a graph: of arrays as arrays, else as tensors; keeps what `backward` needs."""
        ...

    def backward(self, gradient: Any) -> None:
        """Fill in the gradients by the parameters, from that by the last outputs, shaped like these."""
        ...


@runtime_checkable
class WrittenOut(Protocol):
    """A network that knows its own passes."""

    def written_out(self, gradients: Sequence[Tensor]) -> Passes | None:
        """Return its passes, or None where they are left to autograd.

        Args:
            gradients: for each parameter, in their order, a tensor on the CPU that `backward` is to fill in.
        """
        ...


class Backprop:
    """The passes of an `MLP`.

    Args:
        network: one that `handles` says yes to; where its weights lie must not change from now on.
        gradients: for each parameter of the network, in their order, a tensor that `backward` fills in.
    """

    takes_arrays = True

    def __init__(self, network: nn.Module, gradients: Sequence[Tensor]) -> None:
        layers = in_numpy(network)
        assert layers is not None, "`handles` says no"
        self._layers = layers
        self._gradients = [gradient.numpy() for gradient in gradients]
        self._passed: list[np.ndarray] = []

    @staticmethod
    def handles(network: nn.Module) -> bool:
        """Whether this can write out the gradient of `network`: see `in_numpy`; all of it has to be trained."""
        return in_numpy(network) is not None and all(p.requires_grad for p in network.parameters())

    def forward(self, inputs: Any) -> Any:
        """Return the outputs (B, outputs) for inputs (B, inputs): an array for an array, else a tensor."""
        self._passed = forward(self._layers, as_array(inputs))
        return self._passed[-1] if isinstance(inputs, np.ndarray) else torch.from_numpy(self._passed[-1])

    def backward(self, gradient: Any) -> None:
        """Fill in the gradients by the parameters, from that by the last outputs, (B, outputs)."""
        assert self._passed, "`forward` comes first"
        passed, self._passed = self._passed, []
        backward(self._layers, passed, as_array(gradient), self._gradients)
