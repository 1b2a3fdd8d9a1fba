"""Charts of one row a thing, and small histograms: what is compared stands below each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from megatron_snow.report.canvas import WIDTH, gridline, mark, number, svg, text
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import axis_number
from megatron_snow.report.scale import Scale, fit

_LEFT = 154  # room for a row's name
_LETTERS = 20  # of it


@dataclass(frozen=True)
class Value:
    """A measured value, with its interval where it has one."""

    what: str
    value: float
    colour: int
    low: float | None = None
    high: float | None = None


def value_chart(label: str, rows: Sequence[tuple[str, Sequence[Value]]], axis: str, zero: bool = False) -> Markup:
    """One line a row with a mark for each value and a whisker for its interval: made to compare few values of many things."""
    most = max((len(values) for _, values in rows), default=1)
    pitch, top = max(24, 11 * most + 5), 8
    bottom = top + pitch * max(len(rows), 1)
    ends = (end for _, values in rows for one in values for end in (one.value, one.low, one.high) if end is not None)
    across = fit(ends, _LEFT, WIDTH - 14, zero)
    ticks = [join(gridline(across(t), top, across(t), bottom), text(across(t), bottom + 14, axis_number(t), "middle")) for t in across.ticks(4)]
    drawn: list[Child] = []
    for index, (name, values) in enumerate(rows):
        middle = top + pitch * (index + 0.5)
        if index:
            drawn.append(gridline(0, middle - pitch / 2, WIDTH, middle - pitch / 2))
        drawn.append(text(_LEFT - 8, middle + 4, name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…", "end"))
        # Values of one row step down, so that equal ones do not hide each other.
        places = [(one, middle + 10 * (step - (len(values) - 1) / 2)) for step, one in enumerate(values) if math.isfinite(one.value)]
        drawn += [_whisker(one, across, y) for one, y in places]
        drawn += [mark(across(one.value), y, one.colour, f"{name}, {_said(one)}", 4) for one, y in places]
    return svg(label, ticks, drawn, text((_LEFT + WIDTH) / 2, bottom + 30, axis, "middle"), height=bottom + 36)


def _said(one: Value) -> str:
    interval = f" (95 % interval {one.low:.4g} to {one.high:.4g})" if one.low is not None and one.high is not None else ""
    return f"{one.what}: {one.value:.4g}{interval}"


def _whisker(one: Value, across: Scale, y: float) -> Markup | None:
    if one.low is None or one.high is None:
        return None
    a, b = number(across(one.low)), number(across(one.high))
    down, up = number(y - 3), number(y + 3)
    return tag("path", d=f"M{a} {down}V{up}M{a} {number(y)}H{b}M{b} {down}V{up}", class_=f"line whisker c{one.colour}")


def histogram(label: str, edges: Sequence[float], counts: Sequence[float], cut: float | None = None) -> Markup:
    """Bars between ``edges`` (one more than ``counts``), in colour above ``cut``. Half as high as other charts: made to be repeated, small."""
    bottom = 114
    across = Scale(edges[0], edges[-1], 8, WIDTH - 8)
    up = Scale(0, max([*counts, 1]), bottom, 36)
    bars = []
    for (low, high), amount in zip(pairwise(edges), counts, strict=True):
        split = min(max(cut, low), high) if cut is not None else high
        parts = [("bar", low, split), ("bar chosen", split, high)]
        shown = [tag("rect", x=number(across(a) + 0.5), y=number(up(amount)), width=number(across(b) - across(a) - 1), height=number(bottom - up(amount)),
                     class_=kind) for kind, a, b in parts if across(b) - across(a) > 1]  # fmt: skip
        bars.append(tag("g", tag("title", f"{axis_number(low)} to {axis_number(high)}: {amount:,.0f}"), shown))
    labels = [text(across(tick), bottom + 25, axis_number(tick), "middle") for tick in across.ticks(2)]
    line: Child = None
    if cut is not None and edges[0] <= cut <= edges[-1]:
        x, beyond = across(cut), across(cut) > WIDTH / 2
        line = join(gridline(x, 6, x, bottom, "mark"), text(x + (-5 if beyond else 5), 24, f"cut {cut:.2f}", "end" if beyond else "start"))
    return svg(label, bars, gridline(8, bottom, WIDTH - 8, bottom, "axis"), line, labels, height=bottom + 32)
