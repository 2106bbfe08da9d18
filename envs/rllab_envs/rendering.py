"""A small canvas on which all environments here are drawn.

In: shapes in pixels, from the upper left corner. Out: a picture (height, width, 3) uint8. Everything is drawn larger
and then made smaller, so that edges are smooth. The colours are those of the house (`rllab.parts.drawing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from rllab.parts.drawing import COLOURS, INK, SOFT

Frame: TypeAlias = npt.NDArray[np.uint8]
"""A picture: (height, width, 3)."""

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY = COLOURS
PAPER = "#FFFFFF"
LINE = "#D5D5D5"
WALL = "#555B66"
__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LINE",
    "ORANGE",
    "PAPER",
    "PINK",
    "RED",
    "SKY",
    "SOFT",
    "WALL",
    "YELLOW",
    "Canvas",
    "Frame",
]

_SCALE = 3
"""How much larger is drawn than shown."""


class Canvas:
    """A sheet of paper.

    Args:
        width: in pixels; made even, as films want it.
        height: in pixels; made even.
        colour: of the paper.
    """

    def __init__(self, width: float, height: float, colour: str = PAPER) -> None:
        self.width, self.height = (2 * -(-int(size) // 2) for size in (width, height))
        self._image = Image.new("RGB", (self.width * _SCALE, self.height * _SCALE), colour)
        self._draw = ImageDraw.Draw(self._image)

    def box(self, x: float, y: float, width: float, height: float, colour: str, radius: float = 0) -> None:
        """Fill a rectangle whose upper left corner is (x, y); an empty one is none."""
        left, top, right, bottom = self._pixels((x, y), (x + width, y + height))
        if right - left >= 1 and bottom - top >= 1:
            self._draw.rounded_rectangle([left, top, right - 1, bottom - 1], radius * _SCALE, colour)

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fill a circle around (x, y)."""
        self._draw.ellipse(self._pixels((x - radius, y - radius), (x + radius, y + radius)), colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Fill what lies between points."""
        self._draw.polygon(self._pixels(*points), colour)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        """Join points."""
        self._draw.line(self._pixels(*points), colour, round(width * _SCALE))

    def write(self, x: float, y: float, text: str, size: float = 14, colour: str = INK, anchor: str = "mm") -> None:
        """Write a line of text; `anchor` is Pillow's: which of its points (x, y) is, "mm" the middle."""
        self._draw.text((x * _SCALE, y * _SCALE), text, colour, _font(size * _SCALE), anchor)

    def frame(self) -> Frame:
        """Return the picture."""
        return np.asarray(self._image.reduce(_SCALE), np.uint8).copy()

    @staticmethod
    def _pixels(*points: tuple[float, float]) -> list[float]:
        return [coordinate * _SCALE for point in points for coordinate in point]


@cache
def _font(size: float) -> Any:
    return ImageFont.load_default(size)


def flag(canvas: Canvas, x: float, y: float, size: float, colour: str) -> None:
    """Draw a flag on a pole, `size` high, its middle at (x, y)."""
    left, top, bottom = x - size * 0.25, y - size / 2, y + size / 2
    canvas.line([(left, top), (left, bottom)], INK, max(1.0, size / 14))
    canvas.polygon([(left, top), (left + size * 0.65, top + size * 0.22), (left, top + size * 0.45)], colour)
