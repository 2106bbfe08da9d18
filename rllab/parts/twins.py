"""Several value functions of observations and actions as one batched network, and target networks.

Methods that take the smaller of two estimates (Fujimoto et al., 2018) ask both critics the same: one multiplication a
layer does for both, which halves the kernels of two networks. The backward pass is written out, so that nothing is
computed that nobody wants: a critic's loss needs no gradient by the actions, a policy's none by the critics' weights.

    forward    h_0 = (s, a),  h_l = f(h_(l-1) W_l + b_l) with W_l (k, in, out),  and no f at the last layer
    backward   g_L = dloss/dQ,  dW_l = h_(l-1)' g_l,  db_l = sum of g_l,  g_(l-1) = (g_l W_l') * f'(h_(l-1))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllab.parts.networks import Activation, activate, mlp

_ops: Any = torch.ops.aten

_ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    nn.ReLU: (torch.relu_, lambda g, h: _ops.threshold_backward.grad_input(g, h, 0, grad_input=g)),
    nn.Tanh: (torch.tanh_, _ops.tanh_backward),
    nn.Sigmoid: (torch.sigmoid_, _ops.sigmoid_backward),
    nn.ELU: (functional.elu_, lambda g, h: _ops.elu_backward(g, 1, 1, 1, True, h)),
    nn.Softplus: (functional.softplus, lambda g, h: g * torch.expm1(-h).neg_()),  # 1 - exp(-h)
    nn.Identity: (lambda z: z, lambda g, h: g),
}
"""f(z), and the gradient by z from that by f(z) and f(z) itself; both may overwrite what comes first."""


class Critics(nn.Module):
    """`k` multilayer perceptrons of the same shape, Q_i(s, a), each with initial weights of its own.

    Args:
        observation_size: length of an observation's vector.
        action_size: length of an action's vector.
        hidden: units of the hidden layers.
        activation: what follows each hidden layer.
        k: how many.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        activation: Activation = "relu",
        k: int = 2,
    ) -> None:
        super().__init__()
        networks = [mlp(observation_size + action_size, hidden, 1, activation) for _ in range(k)]
        layers = [[layer for layer in network if isinstance(layer, nn.Linear)] for network in networks]
        stacks = list(zip(*layers, strict=True))  # of each layer, those of all networks
        self.weights = nn.ParameterList([torch.stack([layer.weight.detach().t() for layer in s]) for s in stacks])
        self.biases = nn.ParameterList([torch.stack([layer.bias.detach()[None] for layer in s]) for s in stacks])
        self._activation = type(activate(activation))

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the values (k, B), differentiable by the weights; and by the actions, if they have a graph.

        Args:
            observations: (B, observation_size)
            actions: (B, action_size)
        """
        return self._values(observations, actions, [*self.weights, *self.biases])

    def by_actions(self, observations: Tensor, actions: Tensor, first: int | None = None) -> Tensor:
        """Return the values (k, B), differentiable by the actions alone: what a policy's loss needs, and no leak.

        Args:
            observations: (B, observation_size)
            actions: (B, action_size)
            first: how many critics to ask, the first ones; all of them by default.
        """
        return self._values(observations, actions, [p.detach()[:first] for p in (*self.weights, *self.biases)])

    def _values(self, observations: Tensor, actions: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        inputs = torch.cat([observations, actions], 1)  # (B, inputs)
        values: Tensor = _Passes.apply(inputs, self._activation, *parameters)  # type: ignore[no-untyped-call]
        return values


class _Passes(torch.autograd.Function):
    """The passes of `k` perceptrons with one output on the same inputs, as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, activation: type[nn.Module], *parameters: Tensor) -> Tensor:
        """Return the outputs (k, B) for inputs (B, inputs)."""
        depth = len(parameters) // 2
        weights, biases = parameters[:depth], parameters[depth:]
        f, ctx.derivative = _ACTIVATIONS[activation]
        h = inputs.expand(len(weights[0]), -1, -1)  # (k, B, inputs)
        layers = [h]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            h = f(torch.baddbmm(bias, h, weight))  # (k, B, units)
            layers.append(h)
        ctx.save_for_backward(*layers, *weights)  # so that autograd notices if they change in between
        # a row of weights times the units: several times as fast as the units times a column
        return torch.baddbmm(biases[-1], weights[-1].mT, h.mT).squeeze(1)  # (k, B)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients by inputs and parameters, for those who need them, from that by the outputs, (k, B)."""
        by_inputs, _, *needed = ctx.needs_input_grad
        depth = len(needed) // 2
        layers, weights = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        if not any(needed) and len(gradient) > 1 and gradient.device.type == "cpu":
            return _by_inputs(gradient, layers, weights, ctx.derivative), None, *[None] * len(needed)
        by_weights: list[Tensor] = []
        by_biases: list[Tensor] = []
        slope = gradient[:, :, None]  # (k, B, 1)
        for i in reversed(range(depth)):
            h, weight = layers[i], weights[i]  # (k, B, in), (k, in, out)
            if any(needed):
                column = slope.size(2) == 1
                by_weights.insert(0, torch.bmm(slope.mT, h).mT if column else torch.bmm(h.mT, slope))
                by_biases.insert(0, slope.sum(1, keepdim=True))
            if i > 0:
                slope = ctx.derivative(_through(slope, weight), h)  # (k, B, in)
        inputs = _through(slope, weights[0]).sum(0) if by_inputs else None  # (B, inputs)
        return inputs, None, *(by_weights + by_biases if any(needed) else [None] * len(needed))


def _by_inputs(gradient: Tensor, layers: Sequence[Tensor], weights: Sequence[Tensor], derivative: Any) -> Tensor:
    """Return the gradient by the inputs (B, inputs), going through each network with the rows that have one there.

    The smallest of two values has a gradient by one of them in each row: half the work. On a GPU, asking which rows
    would wait for the device.
    """
    total = torch.zeros_like(layers[0][0])
    for i, by_output in enumerate(gradient):
        rows = by_output.nonzero().squeeze(1)
        slope = by_output[rows][:, None]  # (rows, 1)
        for weight, h in zip(reversed(weights[1:]), reversed(layers[1:]), strict=True):
            slope = derivative(_through(slope, weight[i]), h[i].index_select(0, rows))  # (rows, in)
        total.index_add_(0, rows, _through(slope, weights[0][i]))
    return total


def _through(slope: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient by what goes into a layer, (..., B, in), from that by what comes out, (..., B, out)."""
    return slope * weight.mT if slope.size(-1) == 1 else slope @ weight.mT


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move the parameters of a target network towards the online ones: target <- (1 - tau) target + tau online."""
    for theirs, ours in zip(target.parameters(), online.parameters(), strict=True):
        theirs.lerp_(ours, tau)
