import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rllab.parts.networks import MLP, Convolution, Observations, convolutions, infer, mlp
from rllab.parts.optim import GradientSteps


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


def test_dropout_follows_each_hidden_layer() -> None:
    kinds = [type(layer) for layer in mlp(3, (5, 4), 2, "tanh", dropout=0.5)]
    assert kinds == [nn.Linear, nn.Tanh, nn.Dropout, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear]


# --- convolutions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [(4, 3), (4, 3, 2), (4, 5, 1, 2), (4, 3, 1, 0, 2), (4, 4, 3, 1, 2), (4, 7, 2, 3, 3)])
def test_a_convolution_knows_what_it_leaves_of_an_image(layer: tuple[int, ...]) -> None:
    convolution = Convolution(*layer)
    shape = nn.Sequential(*convolutions(1, [convolution]))(torch.zeros(2, 1, 28, 25)).shape
    assert shape == (2, 4, convolution.shrink(28)[1], convolution.shrink(25)[1])


def test_a_convolution_that_finds_nothing_left_leaves_less_than_a_pixel() -> None:
    assert Convolution(4, 5).shrink(4) == (0, 0)
    assert Convolution(4, 3, pooling=2).shrink(3) == (1, 0)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "sigmoid", "softplus", "linear"])
@pytest.mark.parametrize("average", [False, True])
def test_pooling_gives_the_same_on_either_side_of_the_activation_or_stands_behind_it(
    activation: Any, average: bool
) -> None:
    stack = nn.Sequential(*convolutions(1, [Convolution(3, 3, pooling=2)], activation, average=average))
    inputs = torch.randn(2, 1, 8, 8)
    function = {"elu": nn.ELU(), "softplus": nn.Softplus(), "linear": nn.Identity()}.get(activation)
    active = (function or getattr(torch, activation))(stack[0](inputs))
    expected = nn.functional.avg_pool2d(active, 2) if average else nn.functional.max_pool2d(active, 2)
    torch.testing.assert_close(stack(inputs), expected)


def test_channels_are_normalised_before_the_activation_and_need_no_bias() -> None:
    stack = convolutions(1, [Convolution(3, 3, pooling=2)], batch_norm=True)
    assert [type(layer) for layer in stack] == [nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU]
    assert stack[0].bias is None


# --- to act on ----------------------------------------------------------------------------------------------


def assert_infers(network: nn.Module, rows: int = 2) -> None:
    """Check `infer` against what the network itself returns."""
    inputs = torch.randn(rows, 3)
    before = inputs.clone()
    outputs = infer(network, inputs)
    assert isinstance(outputs, np.ndarray)
    assert outputs.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(outputs), network(inputs).detach())
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "sigmoid", "softplus", "linear"])
@pytest.mark.parametrize("hidden", [(), (5,), (64, 64)])
@pytest.mark.parametrize("rows", [1, 8, 9, 500])
def test_inference_gives_what_the_network_gives(activation: Any, hidden: tuple[int, ...], rows: int) -> None:
    torch.manual_seed(0)
    assert_infers(mlp(3, hidden, 2, activation), rows)


class Doubling(MLP):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    "network",
    [
        MLP(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU()),
        MLP(nn.Linear(3, 4), nn.Linear(4, 2)),
        MLP(nn.Linear(3, 4), nn.ReLU(), nn.Tanh(), nn.Linear(4, 2)),
        MLP(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)).eval(),
        MLP(nn.Linear(3, 4), nn.ReLU()),
        MLP(nn.ReLU(), nn.Linear(3, 4)),
        MLP(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)),
        Doubling(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        nn.Linear(3, 4),
    ],
    ids=[
        "layers in a row",
        "layers alone",
        "activations in a row",
        "dropout",
        "an activation at the end",
        "an activation at the beginning",
        "no bias",
        "a forward of its own",
        "no MLP",
        "one layer",
    ],
)
def test_networks_of_any_kind_can_be_asked(network: nn.Module) -> None:
    assert_infers(network)


def test_inference_follows_the_weights_wherever_they_go() -> None:
    torch.manual_seed(0)
    network = mlp(3, (5,), 2)
    assert_infers(network)
    optimizer = GradientSteps(network, lr=0.1)  # which moves the weights into one flat tensor
    assert_infers(network)
    optimizer(network(torch.randn(4, 3)).square().mean())
    assert_infers(network)
    network.load_state_dict(mlp(3, (5,), 2).state_dict())
    assert_infers(network)
    network.load_state_dict(mlp(3, (5,), 2).state_dict(), assign=True)
    assert_infers(network)


def test_a_copy_of_a_network_has_weights_of_its_own() -> None:
    network, inputs = mlp(3, (5,), 2), torch.randn(2, 3)
    before = infer(network, inputs)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin[0].bias.add_(1.0)
    assert_infers(twin)
    np.testing.assert_array_equal(infer(network, inputs), before)


def test_what_was_inferred_is_not_overwritten_by_what_is_inferred_next() -> None:
    network = mlp(3, (5,), 2)
    first = infer(network, torch.ones(1, 3))
    kept = first.copy()
    infer(network, torch.zeros(1, 3))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("rows", [1, 9])
def test_weights_that_are_not_finite_raise_no_warning(value: float, rows: int) -> None:
    network = mlp(3, (5,), 2, "tanh")
    with torch.no_grad():
        network[0].weight.fill_(value)
    inputs = torch.linspace(-1, 1, 3 * rows).reshape(rows, 3)  # the warnings filter makes any warning an error
    np.testing.assert_array_equal(np.isnan(infer(network, inputs)), np.isnan(network(inputs).detach().numpy()))


def test_values_too_large_for_a_number_raise_no_warning() -> None:
    network = mlp(3, (5,), 2)
    with torch.no_grad():
        network[0].weight.fill_(1e30)
    assert not np.isfinite(infer(network, torch.full((1, 3), 1e30))).any()


def test_inputs_that_belong_to_a_graph_are_taken_by_their_values() -> None:
    network, inputs = mlp(3, (5,), 2), torch.randn(1, 3, requires_grad=True)
    np.testing.assert_allclose(infer(network, inputs), network(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


# --- observations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "observations", "vectors"),
    [
        (spaces.Box(-1, 1, (2, 2)), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
        (spaces.Box(0, 255, (2,), np.uint8), [[0, 255]], [[0, 1]]),
        (spaces.Box(0, 10, (2,), np.uint8), [[0, 10]], [[0, 10]]),
        (spaces.Box(0, 255, (1, 2), np.uint8), [[[51, 255]]], [[51 / 255, 1]]),
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
    assert result.tolist() == torch.tensor(vectors).tolist()
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
        (spaces.Dict(a=spaces.Discrete(2)), "it takes Box, .* observations, not Dict"),
        (spaces.Tuple([spaces.Discrete(2)]), "not Tuple"),
        (spaces.Text(3), "not Text"),
    ],
    ids=["dict", "tuple", "text"],
)
def test_what_is_no_vector_is_refused_with_the_reason(space: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Observations(space)
