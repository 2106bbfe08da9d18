"""Values that change over training: functions of the progress, a number from 0 (start) to 1 (end)."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "linear", "cosine", "onecycle"]


def scheduled(value: float, schedule: Schedule, progress: float) -> float:
    """Return `value` as it is at `progress`.

    constant: unchanged. linear: falling to 0 at the end. cosine: the same along half a cosine (Loshchilov & Hutter,
    2017). onecycle: rising to `value` from a 25th of it over the first 30 %, then falling to a 250,000th, both along
    half a cosine (Smith & Topin, 2019, with the numbers of torch's OneCycleLR).
    """
    match schedule:
        case "linear":
            return value * max(0.0, 1.0 - progress)
        case "cosine":
            return _half_cosine(value, 0.0, progress)
        case "onecycle":
            if progress < _RISING:
                return _half_cosine(value / 25, value, progress / _RISING)
            return _half_cosine(value, value / 250_000, (progress - _RISING) / (1 - _RISING))
    return value


_RISING = 0.3


def _half_cosine(start: float, end: float, progress: float) -> float:
    """Return the value on half a cosine from `start` to `end`, and `end` after it."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def linear(start: float, end: float, fraction: float, progress: float) -> float:
    """Return the value on the line from `start` to `end` over the first `fraction` of training, then `end`."""
    if progress >= fraction:
        return end
    return start + (end - start) * (progress / fraction)
