import pytest
import torch
from torch import Tensor, nn

from rllab.parts.layers import Layer, layers, multiply_adds, walk
from rllab.parts.networks import Convolution, convolutions, mlp
from rllab.testing import first_difference

NETWORK = nn.Sequential(
    *convolutions(1, [Convolution(4, 5, pooling=2), Convolution(6, 3, stride=2)]), nn.Flatten(), nn.Linear(150, 3)
)
IMAGE = torch.zeros(1, 1, 28, 28)


def test_a_convolutional_network_layer_by_layer_by_hand() -> None:
    """28 - 5 + 1 = 24, halved 12; (12 - 3) // 2 + 1 = 5.  Fields: 5; 5 + 1 = 6 in jumps of 2; 6 + 2 * 2 = 10."""
    assert layers(NETWORK, IMAGE) == [
        Layer("input", (1, 28, 28), 0, 1),
        Layer("conv1", (4, 24, 24), 4 * 25 + 4, 5),
        Layer("max pooling 1", (4, 12, 12), 0, 6),
        Layer("relu1", (4, 12, 12), 0, 6),
        Layer("conv2", (6, 5, 5), 6 * 4 * 9 + 6, 10),
        Layer("relu2", (6, 5, 5), 0, 10),
        Layer("flatten1", (150,), 0, None),
        Layer("output", (3,), 150 * 3 + 3, None),
    ]


@pytest.mark.parametrize(
    "stack",
    [
        [Convolution(1, 3)] * 3,
        [Convolution(1, 3, 2), Convolution(1, 5, 1), Convolution(1, 2, 3)],
        [Convolution(1, 5, pooling=2), Convolution(1, 3, pooling=2)],
    ],
)
def test_the_receptive_field_is_as_many_pixels_as_change_an_output(stack: list[Convolution]) -> None:
    network = nn.Sequential(*convolutions(1, stack, "linear", average=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    inputs: Tensor = torch.zeros(1, 1, 41, 41, requires_grad=True)
    outputs = network(inputs)
    middle = outputs.shape[-1] // 2
    (gradient,) = torch.autograd.grad(outputs[0, 0, middle, middle], inputs)
    seen = int((gradient[0, 0].sum(0) > 0).sum())
    assert layers(network, inputs.detach())[-1].receptive_field == seen


def test_frozen_parameters_are_not_trained() -> None:
    network = mlp(2, (3,), 2)
    assert sum(row.parameters for row in layers(network, torch.zeros(1, 2))) == 17
    network[0].requires_grad_(False)
    assert sum(row.parameters for row in layers(network, torch.zeros(1, 2))) == 8


def test_the_multiply_adds_of_a_forward_pass_by_hand() -> None:
    assert multiply_adds(mlp(4, (3,), 2), torch.zeros(1, 4)) == 4 * 3 + 3 * 2
    assert multiply_adds(NETWORK, IMAGE) == 24 * 24 * 4 * 25 + 5 * 5 * 6 * 4 * 9 + 150 * 3


def test_going_through_a_network_changes_nothing_in_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(72, 2))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    names = [name for name, _, _ in walk(network, torch.randn(3, 1, 8, 8, generator=torch.Generator()))]
    assert names == ["conv1", "batch norm 1", "flatten1", "dropout1", "output"]
    assert first_difference(before, (dict(network.state_dict()), torch.get_rng_state())) is None
    assert [part.training for part in network] == [True, False, True, True, True]
