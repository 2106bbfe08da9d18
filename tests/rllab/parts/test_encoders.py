from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rllab.parts.encoders import Dueling, NatureCNN, flat, multiply_adds, network_for
from rllab.parts.networks import MLP, Observations, image_axes, mlp


def images(*shape: int) -> Box:
    return Box(0, 255, shape, np.uint8)


# --- observations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((84, 84), (0, 1)),
        ((36, 50), (0, 1)),
        ((35, 84), None),
        ((4, 84, 84), (0, 1, 2)),
        ((84, 84, 4), (2, 0, 1)),
        ((210, 160, 3), (2, 0, 1)),
        ((3, 210, 160), (0, 1, 2)),
        ((84, 84, 84), (0, 1, 2)),
        ((10, 10), None),
        ((7, 7, 3), None),
        ((84, 4, 84), None),
        ((4, 84, 84, 1), (0, 3, 1, 2)),
        ((4, 84, 84, 3), (0, 3, 1, 2)),
        ((4, 3, 84, 84), (0, 1, 2, 3)),
        ((128,), None),
        ((), None),
        ((2, 2, 3, 84, 84), None),
    ],
)
def test_where_the_channels_of_an_image_are(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> None:
    assert image_axes(shape) == axes


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        ((36, 40), lambda c, h, w: (h, w)),
        ((4, 36, 40), lambda c, h, w: (c, h, w)),
        ((36, 40, 4), lambda c, h, w: (h, w, c)),
        ((2, 36, 40, 3), lambda c, h, w: (c // 3, h, w, c % 3)),
        ((2, 3, 36, 40), lambda c, h, w: (c // 3, c % 3, h, w)),
    ],
)
def test_an_image_becomes_channels_first_between_0_and_1(shape: tuple[int, ...], path: Any) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    module = Observations(images(*shape))
    result = module(torch.from_numpy(batch))
    channels = int(np.prod(shape)) // (36 * 40)
    assert result.shape == (3, *module.shape) == (3, channels, 36, 40)
    assert result.dtype == torch.float32
    assert module.is_image
    assert module.size == channels * 36 * 40
    for i, c, h, w in np.random.default_rng(1).integers(0, [3, channels, 36, 40], (50, 4)):
        assert result[i, c, h, w].item() == pytest.approx(batch[(i, *path(c, h, w))] / 255)


def test_a_batch_of_observations_is_not_changed() -> None:
    floats = torch.ones(2, 36, 36)
    Observations(Box(0, 255, (36, 36)), "cnn")(floats)
    Observations(Box(0, 255, (36, 36)))(floats)
    assert torch.equal(floats, torch.ones(2, 36, 36))


def test_small_images_are_flattened_and_so_are_all_for_a_multilayer_perceptron() -> None:
    for module in (Observations(images(10, 10)), Observations(images(4, 36, 36), "mlp")):
        assert not module.is_image
        assert module.shape == (module.size,)
        result = module(torch.full((2, *module.space.shape), 51, dtype=torch.uint8))  # type: ignore[misc]
        assert torch.equal(result, torch.full((2, module.size), 0.2))


def test_floats_of_the_shape_of_an_image_are_a_vector_unless_a_cnn_is_asked_for() -> None:
    space = Box(-1, 1, (3, 40, 40))
    assert not Observations(space).is_image
    module = Observations(space, "cnn")
    batch = torch.rand(2, 3, 40, 40)
    assert torch.equal(module(batch), batch)


def test_what_no_cnn_can_look_at_is_refused_with_the_way_out() -> None:
    reason = Observations.refusal(Box(-1, 1, (4,)), "cnn")
    assert reason is not None
    assert reason.startswith("--network cnn takes images of 36 x 36 pixels and more, not Box(-1.0, 1.0, (4,), float32)")
    assert reason.endswith("leave it out, or say mlp")
    assert Observations.refusal(Discrete(3), "cnn") is not None
    assert Observations.refusal(images(10, 10), "cnn") is not None
    with pytest.raises(ValueError, match="--network cnn"):
        Observations(Discrete(3), "cnn")


def test_images_have_no_running_statistics() -> None:
    reason = Observations.refusal(images(84, 84), normalize=True)
    assert reason is not None
    assert "--network mlp" in reason
    assert Observations.refusal(images(84, 84), "mlp", normalize=True) is None
    assert Observations.refusal(images(10, 10), normalize=True) is None


# --- networks -----------------------------------------------------------------------------------------------


def test_the_network_of_the_paper_has_its_shapes_and_parameters() -> None:
    """Of 4 x 84 x 84: 20 x 20, 9 x 9 and 7 x 7 pixels are left, 3,136 numbers; 1,687,206 parameters for 6 actions."""
    network = network_for(Observations(images(4, 84, 84)), (), 6)
    shapes, h = [], torch.zeros(2, 4, 84, 84)
    for layer in network.children():
        h = layer(h)
        shapes += [tuple(h.shape[1:])] if isinstance(layer, nn.Conv2d | nn.Linear) else []
    assert shapes == [(32, 20, 20), (64, 9, 9), (64, 7, 7), (512,), (6,)]
    kernels = [8192 + 32, 32768 + 64, 36864 + 64, 3136 * 512 + 512, 512 * 6 + 6]
    assert sum(p.numel() for p in network.parameters()) == sum(kernels) == 1_687_206
    assert flat((4, 84, 84)) == 3136


def test_the_smallest_image_leaves_one_pixel() -> None:
    assert flat((1, 36, 36)) == 64
    assert NatureCNN((1, 36, 36))(torch.zeros(1, 1, 36, 36)).shape == (1, NatureCNN((1, 36, 36)).features)


def test_vectors_get_a_plain_multilayer_perceptron() -> None:
    torch.manual_seed(0)
    made = network_for(Observations(Box(-1, 1, (4,))), (8, 5), 3, "tanh")
    torch.manual_seed(0)
    expected = mlp(4, (8, 5), 3, "tanh")
    assert type(made) is MLP
    assert str(made) == str(expected)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), expected.parameters(), strict=True))


def test_hidden_layers_follow_the_features_of_an_image() -> None:
    network = network_for(Observations(images(36, 36)), (10,), 2, "tanh")
    assert [str(layer) for layer in network.children()][-3:] == [
        "Linear(in_features=512, out_features=10, bias=True)",
        "Tanh()",
        "Linear(in_features=10, out_features=2, bias=True)",
    ]


# --- dueling ------------------------------------------------------------------------------------------------


def test_the_value_and_the_advantages_add_up() -> None:
    """V = 2 and A = (1, 3, 5), whose mean is 3: Q = (0, 2, 4)."""
    network = Dueling(Observations(Box(-1, 1, (1,))), (), 3)
    with torch.no_grad():
        for module, biases in ((network.value, [2.0]), (network.advantage, [1.0, 3.0, 5.0])):
            module[-1].weight.zero_()
            module[-1].bias.copy_(torch.tensor(biases))
    assert network(torch.ones(1, 1)).tolist() == [[0, 2, 4]]


def test_atoms_are_put_together_one_by_one() -> None:
    """Two actions of two atoms: V = (1, 10), A = (0, 2) and (4, 8) with means (2, 5)."""
    network = Dueling(Observations(Box(-1, 1, (1,))), (), 4, atoms=2)
    with torch.no_grad():
        for module, biases in ((network.value, [1.0, 10.0]), (network.advantage, [0.0, 2.0, 4.0, 8.0])):
            module[-1].weight.zero_()
            module[-1].bias.copy_(torch.tensor(biases))
    assert network(torch.ones(1, 1)).tolist() == [[-1, 7, 3, 13]]


@pytest.mark.parametrize(
    ("space", "hidden", "trunk", "stream"),
    [
        (Box(-1, 1, (4,)), (), [], [(4, 3)]),
        (Box(-1, 1, (4,)), (7,), [], [(4, 7), (7, 3)]),
        (Box(-1, 1, (4,)), (9, 8, 7), [(4, 9), (9, 8)], [(8, 7), (7, 3)]),
        (images(36, 36), (), [], [(64, 512), (512, 3)]),
        (images(36, 36), (7,), [], [(64, 512), (512, 7), (7, 3)]),
    ],
)
def test_the_streams_have_the_last_hidden_layer_each(
    space: Any, hidden: tuple[int, ...], trunk: list[Any], stream: list[Any]
) -> None:
    observed = Observations(space)
    network = Dueling(observed, hidden, 3)

    def dense(module: nn.Module) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]

    assert (dense(network.trunk), dense(network.advantage)) == (trunk, stream)
    assert dense(network.value) == [*stream[:-1], (stream[-1][0], 1)]
    assert network(torch.zeros(2, *observed.shape)).shape == (2, 3)


# --- work ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [Box(-1, 1, (4,)), images(36, 44), images(4, 84, 84)], ids=str)
def test_multiply_adds_are_those_that_torch_counts(space: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    observed = Observations(space)
    network = network_for(observed, (9,), 3)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *observed.shape))
    assert 2 * multiply_adds(observed, (9,), 3) == counter.get_total_flops()
