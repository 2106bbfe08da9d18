"""Networks for observations: a multilayer perceptron for vectors, convolutions for images.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015), for the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from rllab.parts.networks import MLP, Activation, Convolution, Observations, activate, convolutions, mlp

NATURE = (Convolution(32, 8, stride=4), Convolution(64, 4, stride=2), Convolution(64, 3))
"""The convolutions of the paper."""

FEATURES = 512
"""Units of the dense layer that follows them."""


class NatureCNN(nn.Sequential):
    """The paper's network up to its last layer: three convolutions and a dense layer, each followed by ReLU.

    Args:
        shape: of the images, (channels, height, width), of at least 36 x 36 pixels.

    Attributes:
        features: length of the vectors it gives.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(*nature(shape), nn.Linear(flat(shape), FEATURES), nn.ReLU())
        self.features = FEATURES


def nature(shape: tuple[int, ...]) -> list[nn.Module]:
    """Return the convolutions, (batch, channels, height, width) -> (batch, `flat(shape)`)."""
    return [*convolutions(shape[0], NATURE), nn.Flatten()]


def flat(shape: tuple[int, ...]) -> int:
    """Return how many numbers the convolutions make of an image (channels, height, width)."""
    return NATURE[-1].channels * prod(_sizes(shape)[-1])


def network_for(
    observations: Observations, hidden: Sequence[int], outputs: int, activation: Activation = "relu"
) -> nn.Module:
    """Return a network (batch, *observations.shape) -> (batch, outputs): an MLP, for images after the Nature CNN.

    Args:
        observations: what turns observations into its inputs.
        hidden: units of the hidden layers; for images of those between the 512 of the Nature CNN and the outputs,
            none in the paper.
        outputs: numbers in an output.
        activation: what follows each of `hidden`.
    """
    if not observations.is_image:
        return mlp(observations.size, hidden, outputs, activation)
    return nn.Sequential(*NatureCNN(observations.shape), *mlp(FEATURES, hidden, outputs, activation))


class Dueling(nn.Module):
    """A network that tells the value of a state from the advantages of actions (Wang et al., 2016).

        Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a')                  (equation 9)

    The first layers are shared; the last hidden one, or for images all that follow the convolutions, each has twice.
    With several atoms (Hessel et al., 2018) each atom is put together by itself.

    Args:
        observations: what turns observations into its inputs.
        hidden: as for `network_for`.
        outputs: `atoms` for each action.
        activation: what follows each of `hidden`.
        atoms: numbers for an action.
    """

    def __init__(
        self,
        observations: Observations,
        hidden: Sequence[int],
        outputs: int,
        activation: Activation = "relu",
        *,
        atoms: int = 1,
    ) -> None:
        super().__init__()
        self.atoms = atoms
        self.trunk: nn.Sequential = MLP()
        inputs, own = observations.size, tuple(hidden)
        if observations.is_image:
            self.trunk = nn.Sequential(*nature(observations.shape))
            inputs, own = flat(observations.shape), (FEATURES, *own)
        elif len(own) > 1:
            *before, inputs, last = own
            self.trunk = MLP(*mlp(observations.size, before, inputs, activation), activate(activation))
            own = (last,)
        self.value = mlp(inputs, own, atoms, activation)
        self.advantage = mlp(inputs, own, outputs, activation)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, actions * atoms) for inputs (batch, *observations.shape)."""
        features = self.trunk(inputs)  # (batch, inputs of the streams)
        value = self.value(features)[:, None]  # (batch, 1, atoms)
        advantage: Tensor = self.advantage(features).unflatten(1, (-1, self.atoms))  # (batch, actions, atoms)
        q: Tensor = value + advantage - advantage.mean(1, keepdim=True)
        return q.flatten(1)


def multiply_adds(observations: Observations, hidden: Sequence[int], outputs: int) -> float:
    """Return the multiply-adds of a forward pass of `network_for`'s network for one observation."""
    if not observations.is_image:
        return float(sum(a * b for a, b in pairwise([observations.size, *hidden, outputs])))
    work, channels = 0, observations.shape[0]
    for layer, size in zip(NATURE, _sizes(observations.shape), strict=True):
        work += prod(size) * layer.channels * channels * layer.kernel**2
        channels = layer.channels
    return float(work + sum(a * b for a, b in pairwise([flat(observations.shape), FEATURES, *hidden, outputs])))


def _sizes(shape: tuple[int, ...]) -> list[list[int]]:
    """Return height and width after each convolution."""
    sizes, size = [], list(shape[1:])
    for layer in NATURE:
        size = [layer.shrink(pixels)[0] for pixels in size]
        sizes.append(size)
    return sizes
