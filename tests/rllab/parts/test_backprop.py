import copy
import warnings
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rllab.parts.backprop import MLP, Backprop, in_numpy
from rllab.parts.networks import Activation, mlp
from rllab.parts.optim import GradientSteps


def passes(network: nn.Module, inputs: Tensor, slopes: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the outputs and the gradients by the parameters, written out."""
    assert isinstance(network, MLP)
    gradients = [torch.full_like(parameter, 7.0) for parameter in network.parameters()]
    backprop = Backprop(network, gradients)
    outputs = backprop.forward(inputs)
    backprop.backward(slopes)
    return outputs, gradients


def test_a_chain_of_two_numbers_by_hand() -> None:
    """h = relu(2 x + 1), y = 3 h - 1; for x = 1: h = 3, y = 8; for x = -1: h = 0, y = -1."""
    network = mlp(1, (1,), 1)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (2.0, 1.0, 3.0, -1.0), strict=True):
            parameter.fill_(value)
    outputs, gradients = passes(network, torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [10.0]]))
    assert outputs.tolist() == [[8.0], [-1.0]]
    # dy/dh = 3 where h > 0, so 0.5 * 3 * x and 0.5 * 3; then 0.5 * h and both slopes
    assert [gradient.item() for gradient in gradients] == [1.5, 1.5, 1.5, 10.5]


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("hidden", [(), (5,), (64, 32)])
@pytest.mark.parametrize("size", [1, 64])
def test_the_gradients_are_those_of_autograd(activation: Any, hidden: tuple[int, ...], size: int) -> None:
    torch.manual_seed(0)
    network, inputs, slopes = mlp(4, hidden, 3, activation), torch.randn(size, 4), torch.randn(size, 3)
    theirs = network(inputs)
    expected = torch.autograd.grad(theirs, list(network.parameters()), slopes)
    outputs, gradients = passes(network, inputs, slopes)
    for ours, value in zip([outputs, *gradients], [theirs, *expected], strict=True):
        torch.testing.assert_close(ours, value)
    assert not outputs.requires_grad


@pytest.mark.parametrize("activation", ["elu", "softplus"])
def test_gradients_far_from_zero_are_those_of_autograd(activation: Any) -> None:
    network, inputs = mlp(1, (1,), 1, activation), torch.tensor([[-50.0], [-5.0], [0.0], [5.0], [50.0]])
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    for row in inputs:
        theirs = network(row[None])
        expected = torch.autograd.grad(theirs, list(network.parameters()), torch.ones(1, 1))
        outputs, gradients = passes(network, row[None], torch.ones(1, 1))
        for ours, value in zip([outputs, *gradients], [theirs, *expected], strict=True):
            torch.testing.assert_close(ours, value)


def test_the_passes_follow_the_weights_when_they_change_in_place() -> None:
    network, inputs, slopes = mlp(2, (4,), 1), torch.randn(3, 2), torch.ones(3, 1)
    gradients = [torch.empty_like(parameter) for parameter in network.parameters()]
    backprop = Backprop(network, gradients)
    for _ in range(2):
        outputs = backprop.forward(inputs)
        backprop.backward(slopes)
        torch.testing.assert_close(outputs, network(inputs))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient


def test_the_inputs_stay_as_they_were() -> None:
    inputs = torch.randn(3, 2)
    before = inputs.clone()
    for hidden in ((), (4,)):
        passes(mlp(2, hidden, 1, "linear"), inputs, torch.ones(3, 1))
    assert torch.equal(inputs, before)


def test_going_back_without_having_gone_forward_is_caught() -> None:
    network = mlp(2, (4,), 1)
    backprop = Backprop(network, [torch.empty_like(p) for p in network.parameters()])
    backprop.forward(torch.ones(3, 2))
    backprop.backward(torch.ones(3, 1))
    with pytest.raises(AssertionError, match="`forward` comes first"):
        backprop.backward(torch.ones(3, 1))


def test_arrays_go_both_ways_and_give_the_same_numbers() -> None:
    network, inputs, slopes = mlp(3, (6, 5), 2, "tanh"), torch.randn(7, 3), torch.randn(7, 2)
    expected, by_tensors = passes(network, inputs, slopes)
    gradients = [torch.empty_like(parameter) for parameter in network.parameters()]
    backprop = Backprop(network, gradients)
    outputs = backprop.forward(inputs.numpy())
    assert isinstance(outputs, np.ndarray)
    assert np.array_equal(outputs, expected.numpy())
    backprop.backward(slopes.numpy())
    assert all(torch.equal(one, other) for one, other in zip(gradients, by_tensors, strict=True))
    assert np.array_equal(network(inputs.numpy()), outputs)


def test_a_network_for_tensors_alone_says_so_when_it_is_given_an_array() -> None:
    with pytest.raises(TypeError, match="`infer` takes arrays"):
        mlp(2, (3,), 1, dropout=0.5)(np.ones((1, 2), np.float32))


def test_a_copy_and_a_layer_that_was_replaced_have_weights_of_their_own() -> None:
    network, x = mlp(3, (6, 5), 2), np.ones((2, 3), np.float32)
    GradientSteps(network, lr=0.1)  # which moves the weights into one flat tensor
    before = network(x)
    twin = copy.deepcopy(network)
    assert np.array_equal(twin(x), before)
    twin[2] = nn.Linear(6, 5)
    torch.testing.assert_close(torch.from_numpy(twin(x)), twin(torch.from_numpy(x)).detach())
    twin[4].weight = nn.Parameter(torch.zeros(2, 5))
    torch.testing.assert_close(torch.from_numpy(twin(x)), twin(torch.from_numpy(x)).detach())
    twin.load_state_dict(network.state_dict(), assign=True)
    assert np.array_equal(twin(x), before)
    assert np.array_equal(network(x), before)


def test_numbers_that_overflow_raise_no_warning() -> None:
    network = mlp(2, (3,), 1)
    with torch.no_grad():
        next(network.parameters()).fill_(1e30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        passes(network, torch.full((2, 2), 1e30), torch.full((2, 1), 1e30))
    assert caught == []


# --- what it handles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_perceptrons_with_any_of_our_activations_are_handled(activation: Any, hidden: tuple[int, ...]) -> None:
    assert Backprop.handles(mlp(4, hidden, 3, activation))


class Doubling(MLP):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


SHARED = nn.Linear(2, 2)

REFUSED = {
    "another activation": MLP(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 1)),
    "all frozen": mlp(2, (3,), 1).requires_grad_(False),
    "dropout": MLP(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 1)),
    "dropout for an activation": MLP(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 1)),
    "layers in a row": MLP(nn.Linear(2, 3), nn.Linear(3, 1)),
    "three in a row": MLP(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)),
    "activations in a row": MLP(nn.Linear(2, 3), nn.ReLU(), nn.Tanh(), nn.Linear(3, 1)),
    "an activation at the end": MLP(nn.Linear(2, 3), nn.ReLU()),
    "an activation at the beginning": MLP(nn.ReLU(), nn.Linear(2, 3)),
    "activations around": MLP(nn.ReLU(), nn.Linear(2, 3), nn.ReLU()),
    "no bias": MLP(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False)),
    "one layer twice": MLP(SHARED, nn.ReLU(), SHARED),
    "a forward of its own": Doubling(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
    "no layers": MLP(),
    "no MLP": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
    "a layer alone": nn.Linear(2, 3),
}


@pytest.mark.parametrize("network", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_left_to_autograd(network: nn.Module) -> None:
    assert not Backprop.handles(network)


def test_other_types_and_parts_without_gradient_are_no_arrays() -> None:
    assert in_numpy(mlp(2, (3,), 1).double()) is None
    assert in_numpy(mlp(2, (3,), 1).to("meta")) is None
    assert in_numpy(mlp(2, (3,), 1).requires_grad_(False)) is not None


def test_a_network_of_which_a_part_is_frozen_is_left_to_autograd() -> None:
    network = mlp(2, (3,), 1)
    network[0].bias.requires_grad_(False)
    assert not Backprop.handles(network)
