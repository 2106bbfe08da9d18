import copy
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rllab.parts.networks import Activation, mlp
from rllab.parts.optim import GradientSteps
from rllab.parts.twins import Critics, polyak


def critics(activation: Any = "relu", k: int = 2, hidden: tuple[int, ...] = (16, 8)) -> Critics:
    torch.manual_seed(0)
    return Critics(3, 2, hidden, activation, k)


def singles(network: Critics, activation: Any, hidden: tuple[int, ...]) -> list[nn.Sequential]:
    """Return networks of their own with the weights of each critic."""
    made = []
    for i in range(len(network.weights[0])):
        single = mlp(5, hidden, 1, activation)
        with torch.no_grad():
            for p, weights in zip(list(single.parameters())[0::2], network.weights, strict=True):
                p.copy_(weights[i])
            for p, biases in zip(list(single.parameters())[1::2], network.biases, strict=True):
                p.copy_(biases[i, 0])
        made.append(nn.Sequential(*single))
    return made


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize(("k", "hidden"), [(1, (16, 8)), (2, ()), (2, (16, 8)), (3, (4,))])
def test_values_and_gradients_are_those_of_single_networks(activation: Any, k: int, hidden: tuple[int, ...]) -> None:
    network = critics(activation, k, hidden)
    observations, actions = torch.randn(7, 3), torch.randn(7, 2, requires_grad=True)
    slopes = torch.randn(k, 7)
    values = network(observations, actions)
    ones = singles(network, activation, hidden)
    expected = torch.cat([one(torch.cat([observations, actions], 1)) for one in ones], 1).t()
    torch.testing.assert_close(values, expected)
    assert values.shape == (k, 7)

    wanted = torch.autograd.grad(expected, [actions, *(p for one in ones for p in one.parameters())], slopes)
    by_actions, *found = torch.autograd.grad(values, [actions, *network.weights, *network.biases], slopes)
    torch.testing.assert_close(by_actions, wanted[0])
    depth = len(hidden) + 1
    for i in range(k):
        single = wanted[1 + 2 * depth * i : 1 + 2 * depth * (i + 1)]
        for ours, theirs in zip([part[i] for part in found], [*single[0::2], *single[1::2]], strict=True):
            torch.testing.assert_close(ours, theirs if theirs.dim() == 2 else theirs[None])


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize(("k", "hidden"), [(1, (16, 8)), (2, ()), (2, (16, 8)), (3, (4,)), (2, (128, 128))])
def test_arrays_get_the_same_values_and_gradients(activation: Any, k: int, hidden: tuple[int, ...]) -> None:
    network = critics(activation, k, hidden)
    observations, actions, slopes = torch.randn(130, 3), torch.randn(130, 2), torch.randn(k, 130)
    arrays = observations.numpy(), actions.numpy()
    expected = network(observations, actions)
    wanted = torch.autograd.grad(expected, list(network.parameters()), slopes)
    np.testing.assert_allclose(network(*arrays), expected.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(network.smallest(*arrays), network.smallest(observations, actions).detach(), rtol=1e-4)

    gradients = [torch.full_like(p, torch.nan) for p in network.parameters()]
    passes = network.written_out(gradients)
    assert passes is not None
    assert isinstance(passes.forward(observations, actions), Tensor)
    np.testing.assert_allclose(passes.forward(*arrays), expected.detach(), rtol=1e-4, atol=1e-6)
    passes.backward(slopes.numpy())
    for found, by_autograd in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, by_autograd, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first", [None, 1])
@pytest.mark.parametrize("in_numpy", [True, False])
def test_the_slope_is_that_of_the_smallest_value_by_the_actions_and_leaks_into_no_weights(
    first: int | None, in_numpy: bool
) -> None:
    network = critics()
    observations, actions = torch.randn(70, 3), torch.randn(70, 2, requires_grad=True)
    with torch.no_grad():  # each has the smallest value somewhere
        network.biases[-1].sub_(network(observations, actions).mean(1)[:, None, None])
    assert len(set(network(observations, actions).argmin(0).tolist())) == 2
    smallest = network(observations, actions)[:first].amin(0)
    (expected,) = torch.autograd.grad(smallest.sum(), actions)
    given: Any = (observations.numpy(), actions.detach().numpy()) if in_numpy else (observations, actions.detach())
    values, slope = network.slope(*given, first)
    assert isinstance(values, np.ndarray) == isinstance(slope, np.ndarray) == in_numpy
    np.testing.assert_allclose(np.asarray(values), smallest.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(slope), expected, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in network.parameters())


def test_on_a_gpu_all_critics_go_at_once() -> None:
    """The meta device stands for one, where shapes are all there is to see."""
    network = critics().to("meta")
    actions = torch.randn(7, 2, device="meta")
    values, slope = network.slope(torch.randn(7, 3, device="meta"), actions)
    assert values.shape == (7,)
    assert slope.shape == (7, 2)


def test_the_critics_begin_apart_and_as_linear_layers_do() -> None:
    network = critics(hidden=(1000,))
    assert not torch.equal(network.weights[0][0], network.weights[0][1])
    for part in (network.weights[0], network.biases[0]):
        assert part.abs().max().item() == pytest.approx(5**-0.5, rel=0.01)


def test_values_follow_the_weights_wherever_they_are_moved_to() -> None:
    network = critics()
    inputs = torch.randn(7, 3), torch.randn(7, 2)
    arrays = inputs[0].numpy(), inputs[1].numpy()
    before = network(*inputs).detach()
    np.testing.assert_allclose(network(*arrays), before, rtol=1e-5, atol=1e-6)
    steps = GradientSteps(network, lr=0.1)
    assert torch.equal(network(*inputs), before)
    np.testing.assert_allclose(network(*arrays), before, rtol=1e-5, atol=1e-6)
    steps(network(*inputs).square().mean())
    after = network(*inputs).detach()
    assert not torch.allclose(after, before)
    expected = torch.cat([one(torch.cat(inputs, 1)) for one in singles(network, "relu", (16, 8))], 1).t()
    torch.testing.assert_close(after, expected)
    np.testing.assert_allclose(network(*arrays), after, rtol=1e-5, atol=1e-6)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.biases[-1].add_(1)
    np.testing.assert_allclose(copied(*arrays), after + 1, rtol=1e-5, atol=1e-6)


def parameters(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def test_a_target_network_moves_a_part_of_the_way() -> None:
    online, target = critics(), critics(k=2)
    with torch.no_grad():
        for p in target.parameters():
            p.mul_(3)
    before = parameters(target)
    polyak(target, online, 0.25)
    for old, new, ours in zip(before, parameters(target), parameters(online), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * ours)
    polyak(target, online, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(parameters(target), parameters(online), strict=True))
