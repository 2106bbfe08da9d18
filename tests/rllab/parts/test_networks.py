from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rllab.parts.networks import Observations, mlp


def test_an_mlp_has_an_activation_after_each_hidden_layer_and_none_at_the_end() -> None:
    kinds = [type(layer) for layer in mlp(3, (5, 4), 2, "tanh")]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert mlp(3, (5, 4), 2)(torch.zeros(7, 3)).shape == (7, 2)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "sigmoid", "softplus", "linear"])
def test_an_mlp_computes_what_its_layers_one_after_the_other_do(activation: Any) -> None:
    network, inputs = mlp(3, (5, 4), 2, activation), torch.randn(7, 3)
    assert torch.equal(network(inputs), nn.Sequential(*network)(inputs))


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert [type(layer) for layer in mlp(3, (), 2)] == [nn.Linear]


@pytest.mark.parametrize(
    ("space", "observations", "vectors"),
    [
        (spaces.Box(-1, 1, (2, 2)), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
        (spaces.Box(0, 255, (2,), np.uint8), [[0, 255]], [[0, 255]]),
        (spaces.Box(-1, 1, ()), [0.5, -1], [[0.5], [-1]]),
        (spaces.Discrete(3), [0, 2], [[1, 0, 0], [0, 0, 1]]),
        (spaces.Discrete(3, start=5), [5, 7], [[1, 0, 0], [0, 0, 1]]),
        (spaces.Discrete(2, start=-1), [-1, 0], [[1, 0], [0, 1]]),
        (spaces.MultiDiscrete([2, 3]), [[1, 0]], [[0, 1, 1, 0, 0]]),
        (spaces.MultiDiscrete([2, 3], start=[4, -1]), [[5, 1]], [[0, 1, 0, 0, 1]]),
        (spaces.MultiDiscrete([[2, 2]]), [[[1, 0]]], [[0, 1, 1, 0]]),
        (spaces.MultiBinary(3), [[1, 0, 1]], [[1, 0, 1]]),
    ],
    ids=str,
)
def test_observations_become_vectors(space: Any, observations: list[Any], vectors: list[list[float]]) -> None:
    module = Observations(space)
    result = module(torch.from_numpy(np.array(observations, space.dtype)))
    assert result.tolist() == vectors
    assert result.dtype == torch.float32
    assert module.size == len(vectors[0])


def test_every_sample_of_a_space_can_become_a_vector() -> None:
    for space in (spaces.Discrete(4, start=-2), spaces.MultiDiscrete([3, 2], start=[1, 1]), spaces.MultiBinary([2, 2])):
        space.seed(0)
        batch = np.stack([space.sample() for _ in range(50)])
        vectors = Observations(space)(torch.from_numpy(batch))
        assert torch.equal(vectors, torch.from_numpy(np.stack([spaces.flatten(space, row) for row in batch])).float())


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (
            spaces.Box(0, 255, (84, 84, 3), np.uint8),
            r"it takes vectors, and the observations are images of \(84, 84, 3\)",
        ),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), "images"),
        (spaces.Dict(a=spaces.Discrete(2)), "it takes Box, .* observations, not Dict"),
        (spaces.Tuple([spaces.Discrete(2)]), "not Tuple"),
        (spaces.Text(3), "not Text"),
    ],
    ids=["height first", "channels first", "dict", "tuple", "text"],
)
def test_what_is_no_vector_is_refused_with_the_reason(space: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Observations(space)
