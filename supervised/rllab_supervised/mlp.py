"""MLP: a multilayer perceptron, trained by backpropagation.

Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323 (1986).
With `--hidden none` there is one layer: for classes that is logistic regression, for numbers linear regression.

    h_0 = x,   h_l = f(W_l h_(l-1) + b_l),   z = W_L h_(L-1) + b_L
"""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Size, Tensor, nn

from rllab.parts.networks import Activation, mlp
from rllab_supervised.network import NetworkConfig, NetworkModel


class MLPConfig(NetworkConfig):
    """Hyperparameters of a multilayer perceptron (Rumelhart et al., 1986)."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers; none: there are only output neurons."""

    activation: Activation = "relu"
    """What follows each hidden layer."""


class MLP(NetworkModel):
    """Layers of neurons, each of which sees all of the layer before."""

    Config = MLPConfig
    config: MLPConfig

    @classmethod
    def build(cls, config: MLPConfig, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """Return the layers; an input of any shape becomes a vector."""
        return mlp(Size(shape).numel(), config.hidden, outputs, config.activation, config.dropout)

    @staticmethod
    def arrange(inputs: Tensor) -> Tensor:
        """Return inputs as vectors (n, numbers)."""
        return inputs.reshape(len(inputs), -1)

    def filters(self) -> Tensor:
        """Return what each neuron of the first layer weighs the inputs by: (units, *shape)."""
        first = self.network[0]
        assert isinstance(first, nn.Linear)
        return first.weight.detach().reshape(-1, *self.shape)
