"""How often something happens: in units trained, shares of the budget, epochs or seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_PATTERN = re.compile(
    r"\s*(?P<number>\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)\s*(?P<unit>%|s|m|h|epochs?|)\s*", re.IGNORECASE
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Interval:
    """A stretch of training: `5000` (units of `count`), `5%` (of the budget), `1epoch`, `30s`, `5m`, `2h`; 0 is never.

    As a pydantic field it takes numbers and text, and is written back as the shortest text.
    """

    number: float
    unit: str = ""

    @classmethod
    def parse(cls, text: object) -> Interval:
        """Read an interval from text or a number.

        Raises:
            ValueError: if it is none.
        """
        if isinstance(text, Interval):
            return text
        match = _PATTERN.fullmatch(str(text))
        if match is None or isinstance(text, bool):
            raise ValueError(f"{text!r} is no interval; write a number of units, or like 5%, 1epoch, 30s, 5m, 2h")
        number, unit = float(match["number"]), match["unit"].lower()
        if number == math.inf:
            raise ValueError(f"{text!r} is beyond all bounds; write 0 for never")
        return cls(number, "epoch" if unit.startswith("epoch") else unit)

    @property
    def never(self) -> bool:
        """Whether the interval is 0, which turns its thing off."""
        return self.number == 0

    @property
    def seconds(self) -> float | None:
        """Return the interval in seconds if it is one of time, else None."""
        return self.number * _SECONDS[self.unit] if self.unit in _SECONDS else None

    def units(self, budget: int, epoch: int | None = None) -> int | None:
        """Return the interval in units of `count`, at least 1; None for one of time.

        Args:
            budget: units of the whole training, for `%`.
            epoch: units of one pass over the data, for `epoch`.

        Raises:
            ValueError: for an interval in epochs where there are none.
        """
        match self.unit:
            case "":
                return max(1, round(self.number))
            case "%":
                return max(1, round(budget * self.number / 100))
            case "epoch":
                if epoch is None:
                    raise ValueError(f"{self} is in epochs, but this method has none; use units, % or seconds")
                return max(1, round(epoch * self.number))
        return None

    def __str__(self) -> str:
        return f"{self.number:.12g}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "type": "string",
            "pattern": _PATTERN.pattern.replace("?P<number>", "").replace("?P<unit>", ""),
        }
