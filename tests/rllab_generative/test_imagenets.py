"""Encoders and decoders of images: shapes of any image, and what flows through them."""

import pytest
import torch
from rllab_generative.imagenets import Decoder, Encoder, ImageNetConfig, halving, multiply_adds_of_pair
from torch.utils.flop_counter import FlopCounterMode


def test_convolutions_halve_as_long_as_there_is_something_to_halve() -> None:
    assert halving((1, 28, 28), (4, 4, 4, 4)).sizes == [(28, 28), (14, 14), (7, 7), (3, 3), (3, 3)]
    assert halving((1, 8, 8), (4, 4, 4)).sizes == [(8, 8), (4, 4), (2, 2), (2, 2)]
    assert halving((1, 2, 9), (4,)).sizes == [(2, 9), (2, 9)]
    assert halving((3, 1, 1), (4,)).sizes == [(1, 1), (1, 1)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 33, 18), (2, 5, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("hidden", [(), (7, 5)], ids=str)
def test_what_comes_out_has_the_shape_of_what_went_in(
    shape: tuple[int, ...], network: str, hidden: tuple[int, ...]
) -> None:
    config = ImageNetConfig.parse({"network": network, "hidden": hidden, "channels": (2, 3, 4)})
    encoder, decoder = Encoder(config, shape, 6, classes=3), Decoder(config, 6, shape, classes=3)
    images, hot = torch.rand(5, *shape), torch.eye(3)[[0, 1, 2, 0, 1]]
    with FlopCounterMode(display=False) as counter:
        numbers = encoder(images, hot)
        assert numbers.shape == (5, 6)
        assert decoder(numbers, hot).shape == (5, *shape)
    assert counter.get_total_flops() == 2 * 5 * multiply_adds_of_pair(config, shape, 6, 6, classes=3)
    loss = decoder(encoder(images, hot), hot).square().sum()
    gradients = torch.autograd.grad(loss, [*encoder.parameters(), *decoder.parameters()])
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_images_beside_each_other_in_a_batch_do_not_meet() -> None:
    config = ImageNetConfig(network="cnn", channels=(3, 4), hidden=(5,))
    encoder, decoder = Encoder(config, (3, 9, 9), 2), Decoder(config, 2, (3, 9, 9))
    images = torch.rand(4, 3, 9, 9)
    with torch.no_grad():
        together = decoder(encoder(images))
        alone = torch.cat([decoder(encoder(images[i : i + 1])) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)
