"""From which distribution do these numbers come? The answer depends on how the question is posed.

Each row has 40 numbers of one of four distributions. The same numbers are seen as one of them, as they were drawn,
sorted, or counted in a histogram, and what can be learned from them is very different.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from rllab.data import Data, DatasetConfig, Part, Source, classification

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]] = {
    "lognormal": lambda rng, size: rng.lognormal(size=size),
    "power": lambda rng, size: rng.power(0.1, size=size),
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.uniform(size=size),
}
"""With the parameters that numpy's Generator has by default, and .1 for the power distribution."""


class PosingConfig(DatasetConfig):
    """Options of posing a problem."""

    view: Literal["single", "raw", "sorted", "histogram"] = "raw"
    """What is seen of a row: its first number, all as they were drawn, sorted, or how many fall into each bin."""

    values: int = Field(default=40, ge=2)
    """Numbers in a row."""

    rows: PositiveInt = 100
    """Rows of each class to learn from; as many more are drawn to test on."""

    unit_rows: bool = True
    """Stretch each row to lie between 0 and 1 by its own least and greatest number, so that only the shape can tell."""

    bins: int = Field(default=20, ge=2)
    """Bins of a histogram, between the least and the greatest number of the row."""

    histogram: Literal["counts", "shares"] = "counts"
    """Whether a bin has the number of values in it, or their share of the row: the same, but for the scale."""


class Posing(Source):
    """Rows of 40 numbers from one of four distributions, 400 to learn and 400 others to test, in four views."""

    Config = PosingConfig
    example = ((40,), 4)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Draw the rows to learn from, then those to test on."""
        train, test = (_part(config, rng) for _ in range(2))
        what = "bin" if config.view == "histogram" else "value"
        return Data(
            train,
            tuple(DISTRIBUTIONS),
            test=None if config.cuts_test_part else test,
            features=tuple(f"{what} {n}" for n in range(train.inputs.shape[1])),
            target="distribution",
            notes={"view": config.view},
        )


def _part(config: PosingConfig, rng: np.random.Generator) -> Part:
    size = (config.rows, config.values)
    rows = np.concatenate([draw(rng, size) for draw in DISTRIBUTIONS.values()])
    labels = np.repeat(np.arange(len(DISTRIBUTIONS)), config.rows)
    return classification(seen(rows, config), labels)


def seen(rows: NDArray[np.float64], config: PosingConfig) -> NDArray[np.float64]:
    """Return what is seen of rows (n, values): (n, 1), (n, values) or (n, bins)."""
    if config.unit_rows:
        low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
        rows = (rows - low) / (high - low)
    match config.view:
        case "single":
            return rows[:, :1]
        case "raw":
            return rows
        case "sorted":
            return np.sort(rows, axis=1)
    counts = np.stack([np.histogram(row, config.bins)[0] for row in rows]).astype(float)
    return counts / rows.shape[1] if config.histogram == "shares" else counts
