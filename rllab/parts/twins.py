"""Several value functions of observations and actions, side by side, and target networks.

Methods that take the smaller of two estimates (Fujimoto et al., 2018) ask both critics the same. On a GPU one
multiplication a layer does for both, which halves the kernels of two networks; on the CPU, in NumPy, each goes its own
way through the cache. The backward passes are written out, so that nothing is computed that nobody wants: a critic's
loss needs no gradient by the actions, a policy's none by the critics' weights.

    forward    h_0 = (s, a),  h_l = f(h_(l-1) W_l' + b_l) with W_l (k, out, in),  and no f at the last layer
    backward   g_L = dloss/dQ,  dW_l = g_l' h_(l-1),  db_l = sum of g_l,  g_(l-1) = (g_l W_l) * f'(h_(l-1))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rllab.parts.arrays import Numbers, as_array
from rllab.parts.backprop import ACTIVATIONS, Layer, Passes, backward, forward
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

    They give arrays for arrays, on the CPU, and tensors for tensors.

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
        self.weights = nn.ParameterList([torch.stack([layer.weight.detach() for layer in s]) for s in stacks])
        self.biases = nn.ParameterList([torch.stack([layer.bias.detach()[None] for layer in s]) for s in stacks])
        self._activation = type(activate(activation))

    def forward(self, observations: Numbers, actions: Numbers) -> Numbers:
        """Return the values (k, B); tensors are differentiable by the weights.

        Args:
            observations: (B, observation_size)
            actions: (B, action_size)
        """
        if isinstance(observations, np.ndarray):
            return _values([forward(layers, _joined(observations, actions)) for layers in _in_numpy(self)])
        return self._in_torch(observations, actions, [*self.weights, *self.biases])

    def smallest(self, observations: Numbers, actions: Numbers) -> Numbers:
        """Return the smallest of the values, (B,), for what `forward` takes."""
        values = self(observations, actions)
        return values.min(0) if isinstance(values, np.ndarray) else values.amin(0)

    def slope(self, observations: Numbers, actions: Numbers, first: int | None = None) -> tuple[Numbers, Numbers]:
        """Return the smallest of the values, (B,), and its gradient by the actions, (B, action_size).

        It is what a policy's loss needs, without a graph, and none of it leaks into the weights.

        Args:
            observations: (B, observation_size)
            actions: (B, action_size)
            first: how many critics to ask, the first ones; all of them by default.
        """
        if isinstance(observations, np.ndarray):
            values, by_inputs = _climb(_in_numpy(self)[:first], _joined(observations, actions))
            return values, by_inputs[:, observations.shape[1] :]
        with torch.enable_grad():
            at = actions.detach().requires_grad_()
            parameters = [p.detach()[:first] for p in (*self.weights, *self.biases)]
            smallest = self._in_torch(observations, at, parameters).amin(0)
            (by_actions,) = torch.autograd.grad(smallest.sum(), at)
        return smallest.detach(), by_actions

    def written_out(self, gradients: Sequence[Tensor]) -> Passes | None:
        """Return the passes in NumPy; `gradients` are those of the parameters, to be filled in."""
        return _InNumPy(self, gradients) if all(p.requires_grad for p in self.parameters()) else None

    def _in_torch(self, observations: Tensor, actions: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        inputs = torch.cat([observations, actions], 1)  # (B, inputs)
        values: Tensor = _InTorch.apply(inputs, self._activation, *parameters)  # type: ignore[no-untyped-call]
        return values


# --- on the CPU, one after the other: `backprop` has the passes -----------------------------------------------

_seen: WeakKeyDictionary[Critics, tuple[list[int], list[list[Layer]]]] = WeakKeyDictionary()


def _in_numpy(critics: Critics) -> list[list[Layer]]:
    """Return the layers of each critic, as arrays that share the memory of its parameters."""
    # where an optimiser lays them side by side, they move
    addresses = [p.data_ptr() for part in (critics.weights, critics.biases) for p in part._parameters.values()]  # type: ignore[union-attr]
    seen = _seen.get(critics)
    if seen is None or seen[0] != addresses:
        weights, biases = ([p.detach().numpy() for p in part] for part in (critics.weights, critics.biases))
        between = [*[ACTIVATIONS[critics._activation]] * (len(weights) - 1), None]
        layers = list(zip(weights, biases, between, strict=True))
        networks = [[Layer(w[i], w[i].T, b[i, 0], f) for w, b, f in layers] for i in range(len(weights[0]))]
        seen = _seen[critics] = addresses, networks
    return seen[1]


def _joined(observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return np.concatenate([observations, actions], 1)


def _values(passed: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return the values (k, B), of what `backprop.forward` returned for each critic."""
    return np.stack([outputs[:, 0] for *_, outputs in passed])


def _climb(networks: Sequence[Sequence[Layer]], inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest of the values, (B,), and its gradient by the inputs, (B, inputs).

    In each row one critic has it alone, so that each is gone through backwards with its own rows: half the work.
    """
    passed = [forward(layers, inputs) for layers in networks]
    values = _values(passed)
    smallest = values.argmin(0)  # (B,)
    slope = np.empty_like(inputs)
    for i, layers in enumerate(networks):
        rows = np.flatnonzero(smallest == i)
        kept = passed[i] if len(rows) == len(inputs) else [h.take(rows, 0) for h in passed[i]]
        slope[rows] = backward(layers, kept, np.ones((len(rows), 1), np.float32), None, by_inputs=True)
    return values.min(0), slope


class _InNumPy:
    """The passes of critics whose weights stay where they are."""

    takes_arrays = True

    def __init__(self, critics: Critics, gradients: Sequence[Tensor]) -> None:
        self._networks = _in_numpy(critics)
        depth = len(gradients) // 2
        arrays = [gradient.numpy() for gradient in gradients]
        by_layers = list(zip(arrays[:depth], arrays[depth:], strict=True))
        self._gradients = [
            [array for by_weights, by_biases in by_layers for array in (by_weights[i], by_biases[i, 0])]
            for i in range(len(self._networks))
        ]
        self._passed: list[list[np.ndarray]] = []

    def forward(self, observations: Any, actions: Any) -> Any:
        """Return the values (k, B): an array for arrays, else a tensor."""
        inputs = _joined(as_array(observations), as_array(actions))
        self._passed = [forward(layers, inputs) for layers in self._networks]
        values = _values(self._passed)
        return values if isinstance(observations, np.ndarray) else torch.from_numpy(values)

    def backward(self, gradient: Any) -> None:
        """Fill in the gradients by the parameters, from that by the last values, (k, B)."""
        assert self._passed, "`forward` comes first"
        slopes, passed, self._passed = as_array(gradient)[:, :, None], self._passed, []
        for layers, kept, slope, by_parameters in zip(self._networks, passed, slopes, self._gradients, strict=True):
            backward(layers, kept, slope, by_parameters)


# --- in torch, all at once ------------------------------------------------------------------------------------


class _InTorch(torch.autograd.Function):
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
            h = f(torch.baddbmm(bias, h, weight.mT))  # (k, B, units)
            layers.append(h)
        ctx.save_for_backward(*layers, *weights)  # so that autograd notices if they change in between
        # a row of weights times the units: several times as fast as the units times a column
        return torch.baddbmm(biases[-1], weights[-1], h.mT).squeeze(1)  # (k, B)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients by inputs and parameters, for those who need them, from that by the outputs, (k, B)."""
        by_inputs, _, *needed = ctx.needs_input_grad
        depth = len(needed) // 2
        layers, weights = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        by_weights: list[Tensor] = []
        by_biases: list[Tensor] = []
        slope = gradient[:, :, None]  # (k, B, 1)
        for i in reversed(range(depth)):
            h, weight = layers[i], weights[i]  # (k, B, in), (k, out, in)
            if any(needed):
                by_weights.insert(0, torch.bmm(slope.mT, h))
                by_biases.insert(0, slope.sum(1, keepdim=True))
            if i > 0:
                slope = ctx.derivative(_through(slope, weight), h)  # (k, B, in)
        inputs = _through(slope, weights[0]).sum(0) if by_inputs else None  # (B, inputs)
        return inputs, None, *(by_weights + by_biases if any(needed) else [None] * len(needed))


def _through(slope: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient by what goes into a layer, (k, B, in), from that by what comes out, (k, B, out)."""
    return slope * weight if slope.size(-1) == 1 else slope @ weight


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move the parameters of a target network towards the online ones: target <- (1 - tau) target + tau online."""
    for theirs, ours in zip(target.parameters(), online.parameters(), strict=True):
        theirs.lerp_(ours, tau)
