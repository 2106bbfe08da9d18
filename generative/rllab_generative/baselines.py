"""What a model of a text has to beat: characters by how often they occur, pairs of them, and gzip.

In: a text and where its held-out part begins. Out: nats per character of that part. All of them learn from what comes
before it alone.

    unigram   p(b)     = (n(b) + 1) / (N + V)             n: how often in the text before, V: size of the vocabulary
    bigram    p(b | a) = (n(a, b) + 1) / (n(a) + V)       after the character a
    gzip      ln 2 * 8 (|gzip(before + part)| - |gzip(before)|) / |part|,   bytes at the highest level
"""

from __future__ import annotations

import math
import zlib

import numpy as np


def unigram(codes: np.ndarray, start: int, vocabulary: int) -> float:
    """Return nats per character by how often each occurs, with add-one smoothing.

    Args:
        codes: (N,), the text as numbers of characters.
        start: where the held-out part begins.
        vocabulary: how many characters there are.
    """
    counts = np.bincount(codes[:start], minlength=vocabulary) + 1
    return float(-np.log(counts / counts.sum())[codes[start:]].mean())


def bigram(codes: np.ndarray, start: int, vocabulary: int) -> float:
    """Return nats per character given the one before, with add-one smoothing; arguments as for `unigram`.

    Only pairs that occur are counted, so that a vocabulary of thousands needs no table of millions.
    """
    pairs = codes[:-1].astype(np.int64) * vocabulary + codes[1:]
    seen, counts = np.unique(pairs[: max(start - 1, 0)], return_counts=True)
    firsts = np.bincount(codes[: max(start - 1, 0)], minlength=vocabulary)  # the last one is followed by the part
    asked, times = np.unique(pairs[start - 1 :], return_counts=True)
    known = np.isin(asked, seen)
    joint = np.zeros(len(asked))
    joint[known] = counts[np.searchsorted(seen, asked[known])]
    surprise = -np.log((joint + 1) / (firsts[asked // vocabulary] + vocabulary))
    return float((surprise * times).sum() / times.sum())


def gzip(before: str, part: str) -> float:
    """Return the nats per character of `part` that gzip adds for it when it follows `before`, both as UTF-8.

    It is the size of the file of both less that of the first, at level 9; gzip looks back 32 KiB and no further.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: the format of gzip
    packer.compress(before.encode("utf-8", "surrogatepass"))  # what it writes by now is in both files
    alone = len(packer.copy().flush())
    together = len(packer.compress(part.encode("utf-8", "surrogatepass"))) + len(packer.flush())
    return (together - alone) * 8 * math.log(2) / len(part)
