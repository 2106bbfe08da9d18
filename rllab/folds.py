"""Cross-validation: which folds a plan leaves open, and what their scores say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rllab.data import DatasetTask
from rllab.planning import Plan


class ConfidenceInterval(NamedTuple):
    """A mean, and the interval around it; of such intervals 95 % have the true mean in them."""

    mean: float
    low: float
    high: float


def open_option(planned: Plan) -> str | None:
    """Return the option that would choose one of the --folds, if there are folds and none was chosen; else None."""
    if not isinstance(planned.task, DatasetTask) or not planned.task.config.folds:
        return None
    options = planned.method.task_options(planned.task.name)
    name = next(option for option, field in options.items() if field == "fold")
    return None if name in planned.sources else name


def t_interval(values: Sequence[float]) -> ConfidenceInterval:
    """Return the mean of at least two values and its 95 % interval by Student's t, of len(values) - 1 degrees.

    It takes the values for independent. Scores of folds nearly are: their training parts overlap, which makes the
    interval a little too narrow (Bengio and Grandvalet, 2004).
    """
    from scipy import stats

    number = len(values)
    mean = math.fsum(values) / number
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1))
    half = float(stats.t.ppf(0.975, number - 1)) * deviation / math.sqrt(number)
    return ConfidenceInterval(mean, mean - half, mean + half)
