"""Backpropagation through a multilayer perceptron, written out (Rumelhart, Hinton & Williams, 1986).

    forward    h_0 = x,  h_l = f(W_l h_(l-1) + b_l),  and no f at the last layer
    backward   g_L = dloss/doutputs,  dW_l = g_l' h_(l-1),  db_l = sum of g_l,  g_(l-1) = (g_l W_l) * f'(h_(l-1))

Autograd does the same sums, and for ReLU gives the same bits. For small networks and batches, what it keeps beside
them (a graph, a node for each operation, a tensor for each gradient) takes longer than the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllab.parts.networks import MLP

_ops: Any = torch.ops.aten

_ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    nn.ReLU: (torch.relu_, lambda gradient, h: _ops.threshold_backward(gradient, h, 0)),
    nn.Tanh: (torch.tanh_, _ops.tanh_backward),
    nn.Sigmoid: (torch.sigmoid_, _ops.sigmoid_backward),
    nn.ELU: (functional.elu_, lambda gradient, h: _ops.elu_backward(gradient, 1, 1, 1, True, h)),
    nn.Softplus: (functional.softplus, lambda gradient, h: gradient * torch.expm1(-h).neg_()),  # 1 - exp(-h)
    nn.Identity: (lambda z: z, lambda gradient, h: gradient),
}
"""f(z), in place where it can be, and the gradient by z from that by f(z) and f(z) itself."""


class Backprop:
    """The passes of an MLP; the gradient goes straight to where the optimiser wants it.

    Args:
        network: one that `handles` says yes to; where its weights lie must not change from now on.
        gradients: for each parameter of the network, in their order, a tensor that `backward` fills.
    """

    def __init__(self, network: MLP, gradients: Sequence[Tensor]) -> None:
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._weights = [layer.weight.detach() for layer in linear]
        self._transposed = [weight.t() for weight in self._weights]
        self._biases = [layer.bias.detach() for layer in linear]
        self._activations = [_ACTIVATIONS[type(layer)] for layer in network if not isinstance(layer, nn.Linear)]
        self._by_weights, self._by_biases = gradients[0::2], gradients[1::2]
        self._layers: list[Tensor] = []

    @staticmethod
    def handles(network: nn.Module) -> bool:
        """Whether `network` is one whose gradient this can write out: linear layers, known activations between."""
        if type(network) is not MLP or len(network) % 2 == 0:  # a subclass may do otherwise
            return False
        linear, between = list(network)[0::2], list(network)[1::2]
        alternating = all(type(x) is nn.Linear for x in linear) and all(type(x) in _ACTIVATIONS for x in between)
        parameters = list(network.parameters())  # fewer than two a layer if one has no bias or is there twice
        return alternating and len(parameters) == 2 * len(linear) and all(p.requires_grad for p in parameters)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (B, outputs) for inputs (B, inputs), and remember the layers before them."""
        h, self._layers = inputs, [inputs]
        for (f, _), transposed, bias in zip(self._activations, self._transposed, self._biases, strict=False):
            h = f(torch.addmm(bias, h, transposed))
            self._layers.append(h)
        return torch.addmm(self._biases[-1], h, self._transposed[-1])

    def backward(self, gradient: Tensor) -> None:
        """Fill the gradients by the parameters, from that by the last outputs, (B, outputs)."""
        assert self._layers, "`forward` comes first"
        for layer in reversed(range(len(self._weights))):
            h = self._layers.pop()
            torch.mm(gradient.t(), h, out=self._by_weights[layer])
            torch.sum(gradient, 0, out=self._by_biases[layer])
            if layer > 0:
                _, derivative = self._activations[layer - 1]
                gradient = derivative(gradient.mm(self._weights[layer]), h)
