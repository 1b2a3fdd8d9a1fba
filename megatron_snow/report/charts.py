"""Plots as inline SVG that takes its colours from the page's style sheet, so that they follow its dark mode.

Written by hand rather than with matplotlib: text stays text (searchable, the reader's font), a curve is one short path,
nothing is imported, and the same numbers give the same bytes. The canvas is small (400 units wide) and the page puts as
many plots side by side as fit, so that labels stay legible at phone width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import axis_number
from megatron_snow.report.scale import PhaseScale, Scale, fit, thin

WIDTH, HEIGHT = 400, 234  # canvas units; ours: with 11.5-unit text (style.css) labels are 9 px or more on a 390 px phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 390, 20, 200  # the plotting area
_MARKED = 60  # points of a curve that are shown as dots too (ours: more would be a thick line)
_COLOURS = 8  # of style.css: --s1 ... --s8

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: points in the order they are joined, a colour of the palette (1 to 8; 0 is grey).

    In a chart over phases, x counts tokens from the start of ``phase``, or from the start of all where that is None.
    """

    name: str
    points: Points
    colour: int = 1
    phase: str | None = None
    marks: bool = False
    dashed: bool = False


def colour(index: int) -> int:
    """The palette's colour for the ``index``-th of a set; what comes after the eighth is grey."""
    return index + 1 if index < _COLOURS else 0


def figure(title: str, drawing: Markup, note: Child = None, legend: Iterable[tuple[str, int]] = ()) -> Markup:
    """A plot with its title, legend (name, colour) and a note under it."""
    keys = [tag("span", tag("i", class_=f"swatch f{index}"), name) for name, index in legend]
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", keys, class_="legend") if keys else None),
        drawing,
        tag("p", note, class_="note") if note else None,
    )


def phase_chart(label: str, lines: Sequence[Line], phases: Sequence[tuple[str, float]], zero: bool = False) -> Markup:
    """Curves over the tokens of the phases (name, tokens), points (tokens, value)."""
    across = PhaseScale.over(phases, _LEFT, _RIGHT)
    up = fit((y for line in lines for _, y in line.points), _BOTTOM, _TOP, zero)
    bands = [
        join(
            tag("rect", x=_n(p.scale.start), y=_TOP, width=_n(p.scale.end - p.scale.start), height=_BOTTOM - _TOP, class_=f"band{index % 2}"),
            _text(p.scale.start + 3, _TOP - 6, p.name, "start"),
        )
        for index, p in enumerate(across.panels)
    ]
    ends = [across.panels[0].scale.low, *(p.scale.high for p in across.panels)] if across.panels else []
    places = [_LEFT, *(p.scale.end for p in across.panels)]
    labels = [
        _text(x, _BOTTOM + 15, axis_number(end), "start" if index == 0 else "end" if index == len(ends) - 1 else "middle")
        for index, (x, end) in enumerate(zip(places, ends, strict=False))
    ]
    axis = "tokens seen (panels not to one scale)" if across.uneven else "tokens seen"
    curves = [_curve(line, across.total if line.phase is None else partial(across, line.phase), up) for line in lines]
    return _svg(label, bands, _rows(up), labels, curves, _text((_LEFT + _RIGHT) / 2, HEIGHT - 2, axis, "middle"))


def line_chart(label: str, lines: Sequence[Line], across: tuple[float, float], up: tuple[float, float], axes: tuple[str, str]) -> Markup:
    """Curves over a numeric axis; ``across`` and ``up`` are the ranges shown, ``axes`` what they are."""
    x_scale, y_scale = Scale(*across, _LEFT, _RIGHT), Scale(*up, _BOTTOM, _TOP)
    labels = [_text(x_scale(tick), _BOTTOM + 15, axis_number(tick), "middle") for tick in x_scale.ticks()]
    titles = [_text((_LEFT + _RIGHT) / 2, HEIGHT - 2, axes[0], "middle"), _text(4, 10, axes[1], "start")]
    return _svg(label, _rows(y_scale), labels, [_curve(line, x_scale, y_scale) for line in lines], titles)


def histogram(label: str, edges: Sequence[float], counts: Sequence[float], cut: float | None = None) -> Markup:
    """Bars between ``edges`` (one more than ``counts``), in colour above ``cut``. Half as high as the others: made to be repeated, small."""
    bottom = 108
    across = Scale(edges[0], edges[-1], 8, WIDTH - 8)
    up = Scale(0, max([*counts, 1]), bottom, 30)
    bars = []
    for (low, high), amount in zip(pairwise(edges), counts, strict=True):
        split = min(max(cut, low), high) if cut is not None else high
        parts = [("bar", low, split), ("bar chosen", split, high)]
        shown = [tag("rect", x=_n(across(a) + 0.5), y=_n(up(amount)), width=_n(across(b) - across(a) - 1), height=_n(bottom - up(amount)), class_=kind)
                 for kind, a, b in parts if across(b) - across(a) > 1]  # fmt: skip
        bars.append(tag("g", tag("title", f"{axis_number(low)} to {axis_number(high)}: {amount:,.0f}"), shown))
    labels = [_text(across(tick), bottom + 24, axis_number(tick), "middle") for tick in across.ticks(2)]
    line: Child = None
    if cut is not None and edges[0] <= cut <= edges[-1]:
        x, beyond = across(cut), across(cut) > WIDTH / 2
        text = _text(x + (-5 if beyond else 5), 20, f"cut {cut:.2f}", "end" if beyond else "start")
        line = join(tag("line", x1=_n(x), x2=_n(x), y1=4, y2=bottom, class_="mark"), text)
    base = tag("line", x1=8, x2=WIDTH - 8, y1=bottom, y2=bottom, class_="axis")
    return _svg(label, bars, base, line, labels, height=bottom + 30)


def dot_chart(label: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, int]]]], axis: str) -> Markup:
    """One line a row: a dot for each (what, value, colour), joined by a thin line: made to compare few values of many things."""
    left, pitch, top = 128, 24, 8
    bottom = top + pitch * max(len(rows), 1)
    across = fit((value for _, dots in rows for _, value, _ in dots), left, WIDTH - 14)
    ticks = [
        join(tag("line", x1=_n(across(t)), x2=_n(across(t)), y1=top, y2=bottom, class_="gridline"), _text(across(t), bottom + 14, axis_number(t), "middle"))
        for t in across.ticks(4)
    ]
    drawn = []
    for index, (name, dots) in enumerate(rows):
        middle = top + pitch * (index + 0.5)
        # Dots of one row step down a little, so that equal values do not hide each other.
        places = [
            (what, value, tint, across(value), middle + 5 * (step - (len(dots) - 1) / 2))
            for step, (what, value, tint) in enumerate(dots)
            if math.isfinite(value)
        ]
        drawn.append(_text(left - 8, middle + 4, name if len(name) < 20 else name[:18] + "…", "end"))
        if len(places) > 1:
            drawn.append(tag("path", d="M" + "L".join(f"{_n(x)} {_n(y)}" for *_, x, y in places), class_="join"))
        drawn += [
            tag("circle", tag("title", f"{name}, {what}: {value:.4g}"), cx=_n(x), cy=_n(y), r=4.5, class_=f"dot f{tint}") for what, value, tint, x, y in places
        ]
    return _svg(label, ticks, drawn, _text((left + WIDTH) / 2, bottom + 30, axis, "middle"), height=bottom + 36)


def _svg(label: str, *children: Child, height: int = HEIGHT) -> Markup:
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)


def _rows(up: Scale) -> list[Markup]:
    """Horizontal grid lines with their labels."""
    return [
        join(tag("line", x1=_LEFT, x2=_RIGHT, y1=_n(up(tick)), y2=_n(up(tick)), class_="gridline"), _text(_LEFT - 5, up(tick) + 4, axis_number(tick), "end"))
        for tick in up.ticks()
    ]


def _curve(line: Line, across: Callable[[float], float], up: Scale) -> Markup:
    """A path, broken where a value is not finite; a lone point is drawn as a dot."""
    finite = [(x, y) for x, y in line.points if math.isfinite(y)]
    place = {point: f"{_n(across(point[0]))} {_n(up(point[1]))}" for point in finite}
    runs: list[list[tuple[float, float]]] = [[]]
    for point in line.points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    path = "".join("M" + "L".join(place[point] for point in thin(run)) for run in runs if len(run) > 1)
    dots = finite if line.marks and len(finite) <= _MARKED else [run[0] for run in runs if len(run) == 1]
    return join(
        tag("path", tag("title", line.name), d=path, class_=f"line c{line.colour}" + (" dashed" if line.dashed else "")) if path else None,
        [
            tag("circle", tag("title", f"{line.name}: {axis_number(y)} at {axis_number(x)}"), cx=_n(across(x)), cy=_n(up(y)), r=3, class_=f"f{line.colour}")
            for x, y in dots
        ],
    )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return tag("text", text, x=_n(x), y=_n(y), text_anchor=anchor)


def _n(value: float) -> str:
    """A coordinate with one decimal: a tenth of a canvas unit is below a pixel."""
    return f"{value:.1f}".removesuffix(".0")
