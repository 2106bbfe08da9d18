"""Walls of images: every pixel in its place, and pictures of one size."""

import numpy as np
import pytest
import torch

from rllab.parts.walls import as_bytes, interleave, mosaic, wall


def test_pixels_become_bytes_of_three_colours() -> None:
    grey = as_bytes(torch.tensor([[[[0.0, 1.0, 0.5]]]]))
    assert grey.shape == (1, 1, 3, 3)
    assert grey[0, 0].tolist() == [[0, 0, 0], [255, 255, 255], [128, 128, 128]]
    red = as_bytes(torch.tensor([1.0, 0.0, 0.2]).reshape(1, 3, 1, 1))
    assert red.flatten().tolist() == [255, 0, 51]
    two = as_bytes(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
    assert two.flatten().tolist() == [128] * 3, "of two channels the mean is shown"


def test_what_lies_outside_0_to_1_is_cut_off() -> None:
    assert as_bytes(torch.tensor([-3.0, 7.0]).reshape(2, 1, 1, 1))[:, 0, 0, 0].tolist() == [0, 255]


def test_a_mosaic_goes_row_by_row_and_leaves_white_what_is_left_over() -> None:
    images = torch.tensor([0.0, 0.2, 0.4]).reshape(3, 1, 1, 1)
    whole = mosaic(images, 2, scale=2, gap=1)
    o, a, b, w = 0, 51, 102, 255
    assert whole[..., 0].tolist() == [
        [o, o, w, a, a],
        [o, o, w, a, a],
        [w, w, w, w, w],
        [b, b, w, w, w],
        [b, b, w, w, w],
    ]


def test_a_wall_shows_the_mosaic_pixel_by_pixel() -> None:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    picture = np.asarray(wall(images, 3, "Six"))
    whole = mosaic(images, 3, scale=10, gap=3)
    height, width = whole.shape[:2]
    found = [
        (top, left)
        for top in range(picture.shape[0] - height + 1)
        for left in range(picture.shape[1] - width + 1)
        if (picture[top, left : left + width] == whole[0]).all()
    ]
    assert found, "the first row of the mosaic is nowhere in the picture"
    top, left = found[0]
    assert (picture[top : top + height, left : left + width] == whole).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 20), (1, 300, 200), (2, 5, 9)], ids=str)
def test_walls_of_any_shape_have_a_size_that_does_not_depend_on_the_pixels(shape: tuple[int, ...]) -> None:
    sizes = {
        wall(fill, 4, "Title", rows=("one", "two"), heads=("a", "b", "c", "d")).size
        for fill in (torch.zeros(8, *shape), torch.ones(8, *shape))
    }
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert 600 <= width <= 1300
    assert 50 < height <= 1300


def test_interleaving_takes_the_first_of_each_group_first() -> None:
    a, b = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0]])
    assert interleave(a, b).flatten().tolist() == [1, 10, 2, 20]
