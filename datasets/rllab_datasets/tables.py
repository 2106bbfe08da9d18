"""Tables that come with a package, or that are made up here: diabetes, diamonds, avocados.

Efron, Hastie, Johnstone and Tibshirani, "Least angle regression", Annals of Statistics 32 (2004): diabetes.
Wickham, "ggplot2" (2016): diamonds; the package plotnine carries the table.
"""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rllab.data import Data, DatasetConfig, Scaling, Source, classification, regression
from rllab.errors import PluginError


class TableConfig(DatasetConfig):
    """Options of a table."""

    scale: Scaling = "standard"


class Diabetes(Source):
    """442 people, ten measurements of each; how far diabetes has got a year later, from 25 to 346."""

    Config = TableConfig
    example = ((10,), 0)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return the measurements in their own units."""
        from sklearn.datasets import load_diabetes

        table: Any = load_diabetes(scaled=False)
        return Data(
            regression(table.data, table.target),
            features=tuple(table.feature_names),
            target="progression after a year",
        )


# --- diamonds -------------------------------------------------------------------------------------


class DiamondsConfig(DatasetConfig):
    """Options of the diamonds; they are not scaled, so that a tree splits where it does elsewhere."""


_NUMBERS = ("carat", "depth", "table", "x", "y", "z")
_KINDS = ("cut", "color", "clarity")


class Diamonds(Source):
    """53,940 diamonds: their price in dollars from size, cut, colour and clarity; needs the extra `diamonds`."""

    Config = DiamondsConfig
    example = ((26,), 0)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return the six numbers of each diamond, and a column of 0 and 1 for each of the 20 kinds."""
        file = _file()
        if file is None:
            raise PluginError(
                "diamonds lie in the package plotnine, which is not installed",
                "Install it with `pip install 'rllab[diamonds]'`.",
            )
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in _NUMBERS}
        for kind in _KINDS:  # in the order of the alphabet, after the numbers: as pandas.get_dummies has them
            found = np.array([row[kind] for row in rows])
            columns |= {f"{kind}={value}": (found == value).astype(float) for value in sorted(set(found.tolist()))}
        prices = [float(row["price"]) for row in rows]
        inputs = np.stack(list(columns.values()), 1)
        return Data(regression(inputs, prices), features=tuple(columns), target="price in dollars")

    @classmethod
    def missing(cls) -> str | None:
        """Return that plotnine is not installed, if it is not."""
        return None if _file() else "needs plotnine: pip install 'rllab[diamonds]'"


def _file() -> Path | None:
    """Return plotnine's table, without importing plotnine."""
    spec = find_spec("plotnine")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [Path(folder) / "data" / "diamonds.csv" for folder in folders or ()]
    return next((file for file in files if file.is_file()), None)


# --- avocados -------------------------------------------------------------------------------------


class AvocadoConfig(TableConfig):
    """Options of the avocados."""

    samples: int = Field(default=1000, ge=10)
    """Avocados that are made up."""

    noise: float = Field(default=0.1, ge=0)
    """Standard deviation of what softness and colour say beside ripeness, which goes from 0 to 1."""


class Avocado(Source):
    """Made-up avocados: are they ripe? Softness and colour tell, each a little wrong; the size tells nothing."""

    Config = AvocadoConfig
    example = ((3,), 2)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Draw how ripe each is, evenly from 0 to 1; above .6 it is ripe."""
        ripeness = rng.uniform(size=config.samples)
        softness, colour = (ripeness + config.noise * rng.standard_normal(config.samples) for _ in range(2))
        size = rng.normal(200, 40, config.samples)
        inputs = np.stack([size, softness, colour], 1)
        features = ("size in grams", "softness", "colour from green to black")
        return Data(classification(inputs, ripeness > 0.6), ("unripe", "ripe"), features=features, target="ripe?")
