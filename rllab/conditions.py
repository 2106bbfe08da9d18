"""Conditions on metrics, such as `eval/return>=475`, for `--stop-when` and `--require`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rllab.errors import ThresholdMissed, did_you_mean

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_PATTERN = re.compile(r"\s*([\w./-]+)\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A metric compared with a threshold. As a pydantic field it takes text and is written back as text."""

    metric: str
    relation: str
    threshold: float

    @classmethod
    def parse(cls, text: object) -> Condition:
        """Read a condition.

        Raises:
            ValueError: if the text is none.
        """
        if isinstance(text, Condition):
            return text
        match = _PATTERN.fullmatch(str(text))
        if match is None:
            raise ValueError(f"{str(text)!r} is no condition; write it like 'eval/return>=475' (with >=, <=, > or <)")
        try:
            return cls(match[1], match[2], float(match[3]))
        except ValueError:
            raise ValueError(f"{match[3]!r} is no number, in {str(text)!r}") from None

    def holds(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the metric is there and fulfils the condition."""
        value = metrics.get(self.metric)
        return value is not None and _OPERATORS[self.relation](float(value), self.threshold)

    def measured(self, metrics: Mapping[str, Any]) -> str:
        """Return in words what the metric is, for a condition that does not hold."""
        value = metrics.get(self.metric)
        if value is not None:
            return f"{self.metric} is {float(value):.6g}"
        near = did_you_mean(self.metric, metrics)
        return f"{self.metric} was not measured" + (f". {near}" if near else "")

    def __str__(self) -> str:
        return f"{self.metric}{self.relation}{self.threshold:.12g}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=core_schema.to_string_ser_schema())


def check_required(conditions: Iterable[Condition], metrics: Mapping[str, Any], of: str = "") -> None:
    """Check the conditions of `--require`.

    Args:
        conditions: all of which have to hold.
        metrics: what was measured last.
        of: whose metrics they are, for the message.

    Raises:
        ThresholdMissed: for the first that does not hold.
    """
    for condition in conditions:
        if not condition.holds(metrics):
            where = f" ({of})" if of else ""
            raise ThresholdMissed(f"--require {condition}: {condition.measured(metrics)}{where}")
