"""What the benchmarks share: the versions that were measured, and numbers with their spread."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import median


def measured_with(*distributions: str) -> dict[str, str]:
    """Return the versions of Python and of `distributions`, and how many CPU cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: version(name) for name in distributions}
    return {"python": platform.python_version(), **versions, "CPU cores": str(cores)}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of repeated measurements."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def beside(measured: Mapping[str, Sequence[float]], form: str = ".2f") -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return medians and ranges of the seconds of "rllab" and "bare", repeat by repeat, and lines that say them.

    Args:
        measured: seconds by way.
        form: of a number of seconds.
    """
    ratios = [ours / theirs for ours, theirs in zip(measured["rllab"], measured["bare"], strict=True)]
    found = {way: summary(values) for way, values in measured.items()} | {"rllab / bare": summary(ratios)}
    lines = [
        f"  {way:10} {spread(values, form)}" + ("" if way == "rllab" else f"   rllab takes {spread(ratios)} times that")
        for way, values in measured.items()
    ]
    return found, lines


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return repeated measurements as text: `2.61 (2.55 to 2.70)`, the median and the range."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
