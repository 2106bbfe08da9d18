"""Generator and discriminator of a GAN: shapes of any image, and what flows through them."""

import pytest
import torch
from rllab_generative.gannets import cnn_discriminator, cnn_generator, mlp_discriminator, mlp_generator
from torch import nn

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 25, 19), (2, 4, 4), (3, 6, 40), (1, 5, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", [(4,), (4, 6), (2, 3, 4, 5)], ids=str)
def test_convolutions_draw_and_look_at_images_of_any_size(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    generator = cnn_generator(5, channels, shape)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert float(images.detach().abs().max()) <= 1
    assert cnn_discriminator(shape, channels, 7, 0.0)(images).shape == (3, 7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("hidden", [(), (4,), (9, 4)], ids=str)
def test_perceptrons_do_too(shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    images = mlp_generator(5, hidden, shape)(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert mlp_discriminator(shape, hidden, 1, 0.5)(images).shape == (3, 1)


def test_the_generator_has_the_layers_of_the_discriminator_the_other_way_round() -> None:
    def widths(network: nn.Sequential) -> list[int]:
        return [layer.out_features for layer in network if isinstance(layer, nn.Linear)]

    assert widths(mlp_discriminator((1, 8, 8), (32, 16), 1, 0.0)) == [32, 16, 1]
    assert widths(mlp_generator(5, (32, 16), (1, 8, 8))) == [16, 32, 64]
    turned = [layer for layer in cnn_generator(5, (4, 6), (3, 32, 32)) if isinstance(layer, nn.ConvTranspose2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in turned] == [(6, 4), (4, 3)]


def test_what_the_discriminator_says_of_an_image_depends_on_no_other() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 2, 12, 12) * 2 - 1
    for network in (mlp_discriminator((2, 12, 12), (8,), 1, 0.0), cnn_discriminator((2, 12, 12), (4, 4), 1, 0.0)):
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_batch_of_one_image_is_no_trouble(shape: tuple[int, ...]) -> None:
    for generator in (cnn_generator(5, (4, 6), shape), mlp_generator(5, (4, 6), shape)):
        generator.train()
        assert bool(torch.isfinite(generator(torch.randn(1, 5))).all())


def test_dropout_is_the_share_that_is_dropped() -> None:
    torch.manual_seed(0)
    (dropout,) = (x for x in mlp_discriminator((1, 8, 8), (50,), 1, 0.3) if isinstance(x, nn.Dropout))
    kept = (dropout(torch.ones(20_000)) != 0).float().mean()
    assert float(kept) == pytest.approx(0.7, abs=0.02)
    assert not any(isinstance(x, nn.Dropout) for x in mlp_generator(5, (50,), (1, 8, 8)))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_in_memory_with_the_channels_of_a_pixel_side_by_side(channels: int) -> None:
    shape = (channels, 8, 8)
    images = cnn_generator(5, (4,), shape)(torch.randn(2, 5))
    assert images.is_contiguous(memory_format=torch.channels_last)
    seen = cnn_discriminator(shape, (4,), 1, 0.0)[0](torch.rand(2, *shape))
    assert seen.is_contiguous(memory_format=torch.channels_last)
