"""Quantities with their unit in the value: ``500B`` tokens, ``8GiB`` memory, ``600 steps``, ``90 s``.

Token counts use decimal suffixes (K, M, B, T = 10^3, 10^6, 10^9, 10^12), as the field writes them. Byte
sizes use the IEC suffixes (KiB = 1024 bytes) or the decimal ones (KB = 1000 bytes).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_serializer, model_validator

_COUNT = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "days": 86400}
_BYTES = {"B": 1, "": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _BYTES[f"{_letter}iB"] = 1024**_power
    _BYTES[f"{_letter}B"] = 1000**_power


def _parse(value: Any, suffixes: dict[str, int], what: str, example: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not {what}; write it like {example}")
    match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([A-Za-z]*)", str(value).strip())
    if match is None or match[2] not in suffixes:
        raise ValueError(f"{value!r} is not {what}; write it like {example} (suffixes: {', '.join(s for s in suffixes if s)})")
    number = Decimal(match[1].replace("_", "")) * suffixes[match[2]]  # exact: 1.001K is 1001
    if number != int(number):
        raise ValueError(f"{value!r} is not a whole number of {what.split()[-1]}; write it like {example}")
    return int(number)


def parse_tokens(value: Any) -> int:
    """``"12.5B"`` -> 12_500_000_000 tokens. Raises ValueError on anything else than a count with a decimal suffix."""
    return _parse(value, _COUNT, "a number of tokens", "500B, 12.5M or 4_096")


def parse_bytes(value: Any) -> int:
    """``"8GiB"`` -> 8 * 2**30 bytes. Raises ValueError on anything else than a size with an IEC or decimal suffix."""
    return _parse(value, _BYTES, "a size in bytes", "8GiB or 256MiB")


def parse_seconds(value: Any) -> int:
    """``"2 min"`` -> 120 seconds. Raises ValueError where the unit (s, min, h, days) is missing."""
    return _parse(value, _SECONDS, "a time in seconds", "90 s, 2 min, 3 h or 4 days")


def format_count(count: float) -> str:
    """12_500_000_000 -> ``12.5B``: at most three significant decimals, for people."""
    for suffix, size in reversed(_COUNT.items()):
        if suffix and abs(count) >= size:
            return f"{count / size:.3f}".rstrip("0").rstrip(".") + suffix
    return f"{count:g}"


def format_bytes(size: float) -> str:
    """2**30 -> ``1.0 GiB``."""
    for power, letter in reversed(list(enumerate("KMGTP", start=1))):
        if abs(size) >= 1024**power:
            return f"{size / 1024**power:.1f} {letter}iB"
    return f"{size:.0f} B"


def format_seconds(seconds: float) -> str:
    """4000 -> ``1 h 07 min``; 75 -> ``1 min 15 s``; 3.2 -> ``3 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


Tokens = Annotated[int, BeforeValidator(parse_tokens), PlainSerializer(lambda n: n, return_type=int)]
Seconds = Annotated[int, BeforeValidator(lambda v: v if isinstance(v, int) else parse_seconds(v)), Field(ge=0), PlainSerializer(lambda n: n, return_type=int)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), PlainSerializer(lambda n: n, return_type=int)]


class Duration(BaseModel):
    """A stretch of training, written ``2.5B`` (tokens) or ``600 steps``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    amount: Annotated[int, Field(ge=0)]
    unit: Literal["tokens", "steps"]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        match = re.fullmatch(r"([0-9_]+)\s*steps?", str(value).strip())
        if match:
            return {"amount": int(match[1].replace("_", "")), "unit": "steps"}
        try:
            return {"amount": parse_tokens(value), "unit": "tokens"}
        except ValueError:
            raise ValueError(f"{value!r} is not a duration; write it like '2.5B' (tokens) or '600 steps'") from None

    def __str__(self) -> str:
        return self._write() if self.unit == "steps" else f"{format_count(self.amount)} tokens"

    @model_serializer
    def _write(self) -> str:
        return f"{self.amount} steps" if self.unit == "steps" else str(self.amount)


def _some_stretch(duration: Duration) -> Duration:
    if duration.amount == 0:
        raise ValueError(f"{duration} is no stretch of training: give 1 at least, like '1000 steps' or '2.5B' (tokens)")
    return duration


Period = Annotated[Duration, AfterValidator(_some_stretch)]
"""A duration that is longer than nothing: how often something is done, or how long."""
