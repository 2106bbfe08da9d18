"""The points of the TensorFlow Playground: four tasks with two classes, two with a number to predict.

Smilkov, Carter, Sculley, Viegas and Wattenberg, "Direct-manipulation visualization of deep networks",
arXiv:1708.03788 (2017); the formulas are those of its dataset.ts and state.ts (Apache License 2.0).
Where a label depends on the place, noise moves the place at which the label is read, not the point.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from rllab.data import Data, DatasetConfig, Source, classification, regression

Feature: TypeAlias = Literal["x", "y", "xx", "yy", "xy", "sinx", "siny"]
Points: TypeAlias = NDArray[np.float64]

FEATURES: dict[str, Callable[[Points, Points], Points]] = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "xx": lambda x, y: x * x,
    "yy": lambda x, y: y * y,
    "xy": lambda x, y: x * y,
    "sinx": lambda x, y: np.sin(x),
    "siny": lambda x, y: np.sin(y),
}
"""What a network may see of a point."""

CLASSES = ("orange", "blue")
"""Of the labels -1 and 1, by their colours there."""


class PlaygroundConfig(DatasetConfig):
    """Options of the points of the TensorFlow Playground."""

    samples: int = Field(default=500, ge=10)
    """Points that are drawn; for two classes half of them of each."""

    noise: float = Field(default=0.0, ge=0, le=1)
    """How much chance there is in the labels or places; the slider there goes from 0 to 0.5."""

    features: tuple[Feature, ...] = ("x", "y")
    """What is seen of a point: x, y, xx, yy, xy, sinx, siny."""

    @field_validator("features")
    @classmethod
    def _some_and_each_once(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        if not features:
            raise ValueError("at least one is needed")
        if len(set(features)) < len(features):
            raise ValueError("one is there twice")
        return features


class RegressionConfig(PlaygroundConfig):
    """Options of the planes of the TensorFlow Playground."""

    samples: int = Field(default=1200, ge=10)


class _Playground(Source):
    """What all of them have in common: points, then features of them."""

    Config = PlaygroundConfig
    example = ((2,), 2)
    numbers = False

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Draw points and return the features asked for."""
        x, y, label = cls.draw(config.samples, config.noise, rng)
        inputs = np.stack([FEATURES[name](x, y) for name in config.features], 1)
        if cls.numbers:
            return Data(regression(inputs, label), features=config.features, target="label from -1 to 1")
        return Data(classification(inputs, label > 0), CLASSES, features=config.features, target="colour")

    @classmethod
    @abstractmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Return x, y and label of as many points."""


class Circle(_Playground):
    """A disc (blue) within a ring (orange): classifyCircleData."""

    @classmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Draw radius and angle; the radius of the disc is at most half, that of the ring at least .7 of 5."""
        inner = samples - samples // 2
        radius = np.concatenate([rng.uniform(0, 2.5, inner), rng.uniform(3.5, 5, samples // 2)])
        angle = rng.uniform(0, 2 * np.pi, samples)
        x, y = radius * np.sin(angle), radius * np.cos(angle)
        moved_x, moved_y = x + noise * rng.uniform(-5, 5, samples), y + noise * rng.uniform(-5, 5, samples)
        return x, y, np.where(np.hypot(moved_x, moved_y) < 2.5, 1.0, -1.0)


class Xor(_Playground):
    """Four squares, blue where x and y have the same sign: classifyXORData."""

    @classmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Draw from the square of side 10, with a gap of .3 on either side of the axes."""
        x, y = (values + np.where(values > 0, 0.3, -0.3) for values in rng.uniform(-5, 5, (2, samples)))
        moved_x, moved_y = x + noise * rng.uniform(-5, 5, samples), y + noise * rng.uniform(-5, 5, samples)
        return x, y, np.where(moved_x * moved_y >= 0, 1.0, -1.0)


class Gauss(_Playground):
    """Two clouds around (2, 2) and (-2, -2): classifyTwoGaussData; noise .5 makes their variance 4, none .5."""

    @classmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Draw the points of two normal distributions."""
        label = np.where(np.arange(samples) < samples - samples // 2, 1.0, -1.0)
        deviation = np.sqrt(0.5 + 7 * noise)
        x, y = (2 * label + deviation * rng.standard_normal(samples) for _ in range(2))
        return x, y, label


class Spiral(_Playground):
    """Two spirals of one and three quarter turns, one within the other: classifySpiralData."""

    @classmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Step along each spiral evenly; noise moves the points by at most as much in x and in y."""
        arms = [(samples - samples // 2, 0.0), (samples // 2, np.pi)]
        way = np.concatenate([np.arange(number) / number for number, _ in arms])
        turn = np.concatenate([np.full(number, start) for number, start in arms])
        angle = 1.75 * way * 2 * np.pi + turn
        x = 5 * way * np.sin(angle) + noise * rng.uniform(-1, 1, samples)
        y = 5 * way * np.cos(angle) + noise * rng.uniform(-1, 1, samples)
        return x, y, np.where(turn == 0, 1.0, -1.0)


class _Field(_Playground):
    """A label that is a function of the place in the square of side 12."""

    Config = RegressionConfig
    example = ((2,), 0)
    numbers = True

    @classmethod
    def draw(cls, samples: int, noise: float, rng: np.random.Generator) -> tuple[Points, Points, Points]:
        """Draw from the square of side 12; noise moves the place the label is read at."""
        x, y = rng.uniform(-6, 6, (2, samples))
        return x, y, cls.label(x + noise * rng.uniform(-6, 6, samples), y + noise * rng.uniform(-6, 6, samples))

    @classmethod
    @abstractmethod
    def label(cls, x: Points, y: Points) -> Points:
        """Return the label at places."""


class Plane(_Field):
    """A plane that rises along the diagonal, (x + y) / 10, for regression: regressPlane."""

    @classmethod
    def label(cls, x: Points, y: Points) -> Points:
        """Return a tenth of the sum."""
        return (x + y) / 10


class GaussianField(_Field):
    """Six hills and hollows, for regression: regressGaussian."""

    @classmethod
    def label(cls, x: Points, y: Points) -> Points:
        """Return the label of the nearest hill (1 at its top) or hollow (-1), which falls to 0 at a distance of 2."""
        found = np.zeros_like(x)
        for sign, center_x, center_y in (
            *((1, -4, 2.5), (-1, 0, 2.5), (1, 4, 2.5)),
            *((-1, -4, -2.5), (1, 0, -2.5), (-1, 4, -2.5)),
        ):
            here = sign * np.clip(1 - np.hypot(x - center_x, y - center_y) / 2, 0, 1)
            found = np.where(np.abs(here) > np.abs(found), here, found)
        return found
