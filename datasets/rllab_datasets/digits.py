"""Handwritten digits of 8 x 8 pixels, which scikit-learn carries: nothing to download.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllab.data import Data, DatasetConfig, Scaling, Source, classification


class DigitsConfig(DatasetConfig):
    """Options of the digits."""

    scale: Scaling = "minmax"


class Digits(Source):
    """1797 grey images of 1 x 8 x 8 pixels, ten classes, split 80/20."""

    Config = DigitsConfig
    example = ((1, 8, 8), 10)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return the images; their 17 shades become 0 to 255."""
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        images = np.round(digits.images[:, None] * (255 / 16)).astype(np.uint8)
        return Data(classification(images, digits.target), classes=tuple("0123456789"), target="digit")
