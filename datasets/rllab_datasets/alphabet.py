"""Three letters of the alphabet in a row: which one comes next? The smallest task for a sequence."""

from __future__ import annotations

from string import ascii_uppercase as LETTERS
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rllab.data import Data, DatasetConfig, Source, classification
from rllab.errors import UsageError

LENGTH = 3


class AlphabetConfig(DatasetConfig):
    """Options of the alphabet."""

    letters: Literal[26, 23] = 26
    """Classes: all 26 letters, or the 23 that come after three others."""


class Alphabet(Source):
    """The 23 triples from ABC to WXY and the letter after each; it is tested on the same ones."""

    Config = AlphabetConfig
    example = ((3, 1), 26)

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return sequences (23, 3, 1) of the letters' numbers, from 0 to 25, divided by 26."""
        starts = np.arange(len(LETTERS) - LENGTH)
        inputs = (starts[:, None] + np.arange(LENGTH))[..., None] / len(LETTERS)
        skipped = len(LETTERS) - config.letters
        items = classification(inputs, starts + LENGTH - skipped)
        same = {"test part": "the same 23 triples: what is measured is memory, not generalisation"}
        return Data(
            items,
            tuple(LETTERS[skipped:]),
            test=None if config.cuts_test_part else items,
            target="next letter",
            notes={} if config.cuts_test_part else same,
            encode=encode,
        )


def encode(text: str) -> Tensor:
    """Return three letters as an input (3, 1).

    Raises:
        UsageError: if they are not three letters of the alphabet.
    """
    numbers = [LETTERS.find(letter) for letter in text.strip().upper()]
    if len(numbers) != LENGTH or -1 in numbers:
        raise UsageError(f"{text!r} is not {LENGTH} letters of the alphabet, such as ABC")
    return torch.tensor(numbers)[:, None] / len(LETTERS)
