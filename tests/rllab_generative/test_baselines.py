"""Baselines of texts, with answers worked out by hand."""

from __future__ import annotations

import gzip as files
import math
from itertools import pairwise

import numpy as np
import pytest
from rllab_generative import baselines

CODES = np.array([0, 0, 1, 0, 1], np.uint8)  # "aab", and held out "ab"


def test_unigram_counts_the_part_before_and_adds_one() -> None:
    # p(a) = (2 + 1) / (3 + 2), p(b) = (1 + 1) / (3 + 2)
    assert baselines.unigram(CODES, 3, 2) == pytest.approx(-(math.log(3 / 5) + math.log(2 / 5)) / 2)


def test_unigram_of_a_character_that_came_never_before_is_finite() -> None:
    assert baselines.unigram(np.array([0, 0, 2]), 2, 3) == pytest.approx(math.log(5))


def test_bigram_predicts_the_first_character_from_the_one_before_the_part() -> None:
    # after b nothing was seen: p(a | b) = 1 / 2; after a: an a and a b, p(b | a) = (1 + 1) / (2 + 2)
    assert baselines.bigram(CODES, 3, 2) == pytest.approx(math.log(2))


def test_bigram_is_the_same_as_a_table_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    codes, start, size = rng.integers(0, 7, 500).astype(np.uint8), 400, 7
    table = np.ones((size, size))
    for first, second in pairwise(codes[:start]):
        table[first, second] += 1
    p = table / table.sum(1, keepdims=True)
    expected = -np.mean([math.log(p[codes[i - 1], codes[i]]) for i in range(start, len(codes))])
    assert baselines.bigram(codes, start, size) == pytest.approx(expected)


def test_a_deterministic_text_is_cheap_for_the_bigram_and_dear_for_the_unigram() -> None:
    codes = np.tile(np.arange(4), 500)
    assert baselines.bigram(codes, 1600, 4) < 0.02
    assert baselines.unigram(codes, 1600, 4) == pytest.approx(math.log(4), abs=1e-3)


def test_gzip_is_what_a_file_grows_by() -> None:
    before, part = "To be, or not to be: " * 40, "that is the question – 問題\n" * 3
    grown = len(files.compress((before + part).encode(), 9)) - len(files.compress(before.encode(), 9))
    assert baselines.gzip(before, part) == pytest.approx(grown * 8 * math.log(2) / len(part))
