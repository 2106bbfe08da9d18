"""Values that change over training: functions of the progress, a number from 0 (start) to 1 (end)."""

from __future__ import annotations

from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "linear"]


def scheduled(value: float, schedule: Schedule, progress: float) -> float:
    """Return `value` as it is at `progress`: unchanged if constant, falling to 0 at the end if linear."""
    if schedule == "linear":
        return value * max(0.0, 1.0 - progress)
    return value


def linear(start: float, end: float, fraction: float, progress: float) -> float:
    """Return the value on the line from `start` to `end` over the first `fraction` of training, then `end`."""
    if progress >= fraction:
        return end
    return start + (end - start) * (progress / fraction)
