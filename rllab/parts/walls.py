"""Walls: many small images side by side, as what a model has drawn is looked at.

In: images (N, channels, height, width) in [0, 1]. Out: a uint8 array (`mosaic`), or a PIL image in the house style
with a title and the names of rows and columns (`wall`). Every pixel becomes a square of the same size, and the size
of the picture follows from numbers alone, not from what is drawn, so that walls can follow one another as a film.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rllab.parts import drawing
from rllab.parts.drawing import DPI, SOFT, styled

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDE = 1080
"""Pixels that a wall is about wide, unless its images are few or small."""
_CELL = 84
"""Pixels that an image is at most wide if it is enlarged."""


def as_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return images (N, channels, height, width) in [0, 1] as uint8 (N, height, width, 3).

    One channel becomes grey, three are red, green and blue; of any other number the mean is shown.
    """
    shown = images.detach().float().cpu()
    if shown.shape[1] != 3:
        shown = shown.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    pixels: NDArray[np.uint8] = (shown.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def mosaic(images: Tensor, columns: int, *, scale: int = 1, gap: int = 1, below: int = 0) -> NDArray[np.uint8]:
    """Return images side by side, row after row; places that are left over in the last row are white.

    Args:
        images: (N, channels, height, width) in [0, 1].
        columns: images in a row.
        scale: pixels of the result along the side of a pixel.
        gap: pixels of the result between two images.
        below: further ones under each row, for captions.

    Returns:
        (height, width, 3) of uint8.
    """
    pixels = as_bytes(images).repeat(scale, 1).repeat(scale, 2)
    number, height, width, _ = pixels.shape
    rows = math.ceil(number / columns)
    tall, wide = height + gap + below, width + gap
    whole = np.full((rows * tall - gap, columns * wide - gap, 3), 255, np.uint8)
    for place, image in enumerate(pixels):
        top, left = place // columns * tall, place % columns * wide
        whole[top : top + height, left : left + width] = image
    return whole


@styled
def wall(
    images: Tensor,
    columns: int,
    title: str = "",
    *,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
    captions: Sequence[str] = (),
    gap: int = 3,
) -> Image:
    """Return a picture of images side by side.

    Args:
        images: (N, channels, height, width) in [0, 1].
        columns: images in a row.
        title: above all.
        rows: a name for each row, to its left.
        heads: a name for each column, above it.
        captions: one for each image, of as many lines as the first, below it.
        gap: pixels between two images.
    """
    from matplotlib.figure import Figure

    target = min(_CELL, (_WIDE - gap * columns) / columns)
    images, scale = _fitted(images, target)
    below = 20 * (captions[0].count("\n") + 1) if captions else 0
    whole = mosaic(images, columns, scale=scale, gap=gap, below=below)
    height, width = whole.shape[:2]
    names = [drawing.shorten(name, 24) for name in rows]
    left = int(0.075 * DPI * max(map(len, names), default=0)) + 18
    across = max(left + width + 18, int(4.5 * DPI))
    lines = textwrap.wrap(title, int(12 * (across - 36) / DPI)) if title else []
    top = 24 * len(lines) + 14 + (22 if heads else 0)
    down = top + height + 18
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    axes = figure.add_axes((left / across, 18 / down, width / across, height / down))
    axes.imshow(whole, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    if lines:
        figure.text(18 / across, 1 - 9 / down, "\n".join(lines), va="top", fontsize=10, fontweight="bold")
    tall, wide = (size * scale for size in images.shape[2:])
    for number, name in enumerate(names):
        axes.text(-9, number * (tall + gap + below) + tall / 2, name, ha="right", va="center", fontsize=8)
    for number, name in enumerate(heads):
        axes.text(number * (wide + gap) + wide / 2, -6, name, ha="center", va="bottom", fontsize=8, color=SOFT)
    for number, caption in enumerate(captions):
        row, column = divmod(number, columns)
        bottom = row * (tall + gap + below) + tall
        axes.text(column * (wide + gap) + wide / 2, bottom + 2, caption, ha="center", va="top", fontsize=7)
    return drawing.render(figure)


def _fitted(images: Tensor, target: float) -> tuple[Tensor, int]:
    """Return images, shrunk if they are far too large, and by how much to enlarge them to about `target` pixels."""
    width = max(images.shape[3], images.shape[2] / 2)
    if width <= 1.5 * target:
        return images, max(int(target / width), 1)
    sizes = [max(round(size * target / width), 1) for size in images.shape[2:]]
    return nn.functional.interpolate(images.float(), size=sizes, mode="area"), 1


def interleave(*groups: Tensor) -> Tensor:
    """Return the items of groups of one length in turn, (groups * N, ...): the first of each, then the second, ..."""
    return torch.stack(groups, 1).flatten(0, 1)
