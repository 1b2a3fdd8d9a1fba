"""Numbers for people: how the report writes counts, shares, rates and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from megatron_snow.artifacts.units import format_count

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_EXACT_BELOW = 1_000_000  # ours: six digits are read at a glance, more are not


def count(value: float | None) -> str:
    """12345 -> ``12,345``; 12_500_000 -> ``12.5M``; None -> a dash."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if abs(value) < _EXACT_BELOW else format_count(float(f"{value:.4g}"))


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in per cent, two significant digits below 10 %."""
    if not whole:
        return DASH
    percent = 100 * part / whole
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if percent < 0.1:
        return "< 0.1 %"
    # 99.97 % must not read as all of it.
    return f"{min(percent, 99.9):.1f} %" if percent < 10 or percent >= 99 else f"{percent:.0f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A measured value with ``digits`` decimals; None or NaN -> a dash."""
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def axis_number(value: float) -> str:
    """A tick's label: 0.00053 -> ``5.3e-4``, 1500000 -> ``1.5M``."""
    if value == 0:
        return "0"
    if abs(value) < 1e-2:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return format_count(float(f"{value:.3g}"))


def of(amount: int, what: str) -> str:
    """``1 file``, ``12,345 files``, ``2 repositories``."""
    several = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{count(amount)} {what if amount == 1 else several}"


def wilson(passed: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion: right also where nothing passed (Wilson 1927)."""
    if total <= 0:
        return 0.0, 1.0
    rate = passed / total
    centre = rate + z * z / (2 * total)
    margin = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def words(name: str) -> str:
    """A key for people: ``near_duplicate`` -> ``near duplicate``."""
    return name.replace("_", " ")


def mixture(phase: Mapping[str, Any]) -> str:
    """The tiers a phase reads, from its settings: ``standard``; ``synthetic 0.16 + high quality 0.84``; a dash where none is named."""
    blend, replay = phase.get("blend") or {}, phase.get("replay") or {}
    left = (1 - sum(replay.values())) / sum(blend.values()) if replay and blend else 1
    mixed = {tier: weight * left for tier, weight in blend.items()} | replay
    return " + ".join(f"{words(tier)} {part:.3g}" if len(mixed) > 1 else words(tier) for tier, part in mixed.items()) or DASH
