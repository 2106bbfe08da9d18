"""Two thin crescents in a square: easy for a neighbour, impossible for a line, and rare if nobody balances them.

The square is the grid of 1000 x 1000 points on [0, 1)^2. Positive is what lies in just one of two discs, around
(.5, .5) and (.51, .51), with a squared distance below .3**3. In thousandths both are whole numbers, and so exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rllab.data import Data, DatasetConfig, Part, Source, classification
from rllab.errors import UsageError

SIDE = 1000
CLASSES = ("outside", "crescent")
_SHARES = (0.81, 0.09)
"""To learn and to validate; the rest is to test."""


class CrescentsConfig(DatasetConfig):
    """Options of the crescents."""

    samples: int = Field(default=2000, ge=20)
    """Points that are drawn, half of them of each class; 81 % to learn, 9 % to validate, 10 % to test."""


class CrescentsUniformConfig(CrescentsConfig):
    """Options of the crescents as often as they are."""

    samples: int = Field(default=20_000, ge=20, le=SIDE**2)
    """Points that are drawn from all over the square; 81 % to learn, 9 % to validate, 10 % to test."""


class Crescents(Source):
    """Points of two crescents and as many around them, no point twice: 1620 to learn, 180 to validate, 200 to test."""

    Config = CrescentsConfig
    example = ((2,), 2)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Draw as many points of each class."""
        positive = crescents()
        half = config.samples // 2
        if half > positive.sum():
            raise UsageError(f"--samples {config.samples}: there are {positive.sum()} points in the crescents")
        drawn = [rng.choice(np.flatnonzero(positive == label), half, replace=False) for label in (False, True)]
        return _data(rng.permutation(np.concatenate(drawn)), positive, config)


class CrescentsUniform(Source):
    """Points from all over the square, no point twice: of 107 only one lies in a crescent."""

    Config = CrescentsUniformConfig
    example = ((2,), 2)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Draw points that are all as likely."""
        return _data(rng.choice(SIDE**2, config.samples, replace=False), crescents(), config)


def crescents() -> NDArray[np.bool_]:
    """Return whether each point of the grid is positive (1000 * 1000,); x counts the thousands, y the ones."""
    number = np.arange(SIDE)
    squares = [(number - center) ** 2 for center in (500, 510)]
    first, second = (square[:, None] + square[None] < 27_000 for square in squares)  # .3**3, in thousandths squared
    return np.asarray(first ^ second).ravel()


def _data(points: NDArray[np.int64], positive: NDArray[np.bool_], config: CrescentsConfig) -> Data:
    x, y = points // SIDE, points % SIDE
    items = classification(np.stack([x, y], 1) / SIDE, positive[points])
    notes = {"positive in the whole square": f"{positive.mean():.4%}"}
    data = Data(items, CLASSES, features=("x", "y"), target="where it lies", notes=notes)
    if config.cuts_test_part:
        return data
    train, validation, test = _cut(items)
    return replace(data, train=train, validation=validation, test=test)


def _cut(items: Part) -> tuple[Part, Part, Part]:
    first = round(_SHARES[0] * len(items))
    second = first + round(_SHARES[1] * len(items))
    return items[:first], items[first:second], items[second:]
