"""Curves as inline SVG that takes its colours from the page's style sheet, so that they follow its dark mode.

Written by hand rather than with matplotlib, whose SVG fixes its colours (dark mode would need each plot twice), draws text as
outlines or in a font the reader lacks, and takes some 30 kB a plot and a second to import. Here text stays text (searchable, the
reader's font), a curve is one short path, every mark has a name, and the same numbers give the same bytes. The canvas is small
(400 units wide) and the page puts as many plots side by side as fit, so that labels stay legible at phone width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from megatron_snow.report.canvas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, gridline, key, mark, number, svg, text
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import axis_number
from megatron_snow.report.scale import LogScale, PhaseScale, Scale, fit, thin

_MARKED = 60  # points of a curve that are shown as marks too (ours: more would be a thick line)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: points in the order they are joined, a colour of the palette (1 to 8; 0 is grey), which is a pattern and a mark too.

    In a chart over phases, x counts tokens from the start of ``phase``, or from the start of all where that is None.
    """

    name: str
    points: Points
    colour: int = 1
    phase: str | None = None
    marks: bool = False
    dashed: bool = False


def figure(title: str, drawing: Markup, note: Child = None, legend: Iterable[tuple[str, int]] = (), lined: bool = True) -> Markup:
    """A plot with its title, legend (name, colour; with lines or marks alone) and a note under it."""
    keys = [key(name, index, lined) for name, index in legend]
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", keys, class_="legend") if keys else None),
        drawing,
        tag("p", note, class_="note") if note else None,
    )


def phase_chart(label: str, lines: Sequence[Line], phases: Sequence[tuple[str, float]], unit: str, zero: bool = False) -> Markup:
    """Curves over the tokens of the phases (name, tokens), points (tokens, value); ``unit``: what the values are."""
    across = PhaseScale.over(phases, LEFT, RIGHT)
    up = fit((y for line in lines for _, y in line.points), BOTTOM, TOP, zero)
    bands = [
        join(
            tag("rect", x=number(p.scale.start), y=TOP, width=number(p.scale.end - p.scale.start), height=BOTTOM - TOP, class_=f"band{index % 2}"),
            gridline(p.scale.start, TOP - 16, p.scale.start, BOTTOM, "border") if index else None,
            text(p.scale.start + 3, TOP - 6, _fitting(p.name, p.scale.end - p.scale.start), "start"),
        )
        for index, p in enumerate(across.panels)
    ]
    axis = "tokens seen (panels not to one scale)" if across.uneven else "tokens seen"
    curves = [_curve(line, across.total if line.phase is None else partial(across, line.phase), up) for line in lines]
    return svg(label, bands, _rows(up), _ends(across), curves, text((LEFT + RIGHT) / 2, HEIGHT - 2, axis, "middle"), text(2, 12, unit, "start"))


def line_chart(label: str, lines: Sequence[Line], across: Scale | LogScale, up: tuple[float, float], axes: tuple[str, str]) -> Markup:
    """Curves over a numeric axis (``horizontal`` or ``logarithmic`` makes one); ``up`` is the range shown, ``axes`` what they are."""
    y_scale = Scale(*up, BOTTOM, TOP)
    # Labels of a scale's ends stay within the canvas.
    labels = [text(min(across(tick), RIGHT - 4), BOTTOM + 15, axis_number(tick), "middle") for tick in across.ticks()]
    uprights = [gridline(across(tick), TOP, across(tick), BOTTOM) for tick in across.ticks()]
    titles = [text((LEFT + RIGHT) / 2, HEIGHT - 2, axes[0], "middle"), text(2, 12, axes[1], "start")]
    return svg(label, uprights, _rows(y_scale), labels, [_curve(line, across, y_scale) for line in lines], titles)


def horizontal(low: float, high: float) -> Scale:
    """A linear axis across the plotting area."""
    return Scale(low, high, LEFT, RIGHT)


def logarithmic(low: float, high: float) -> LogScale:
    """A logarithmic axis across the plotting area, from one power of ten to another."""
    return LogScale.over(low, high, LEFT, RIGHT)


def _fitting(name: str, room: float) -> str:
    """As much of a phase's name as its panel has room for, at about 6.8 canvas units a letter (ours: Liberation Sans at 12.5)."""
    most = max(1, int((room - 4) / 6.8))
    return name if len(name) <= most else name[: most - 1] + "…"


def _ends(across: PhaseScale) -> list[Markup]:
    """Tokens at the panels' borders; a label that would touch the one before is left out, but for the last."""
    if not across.panels:
        return []
    ends = [(LEFT, across.panels[0].scale.low), *((panel.scale.end, panel.scale.high) for panel in across.panels)]
    found, free = [], -math.inf
    for index, (x, tokens) in enumerate(ends):
        shown, last = axis_number(tokens), index == len(ends) - 1
        width = 7 * len(shown)
        start = x if index == 0 else x - width if last else x - width / 2
        clash = not last and index and x + width / 2 > RIGHT - 7 * len(axis_number(ends[-1][1])) - 4
        if (start >= free and not clash) or last:
            found.append(text(x, BOTTOM + 15, shown, "start" if index == 0 else "end" if last else "middle"))
            free = start + width + 4
    return found


def _rows(up: Scale) -> list[Markup]:
    """Horizontal grid lines with their labels."""
    return [join(gridline(LEFT, up(tick), RIGHT, up(tick)), text(LEFT - 5, up(tick) + 4, axis_number(tick), "end")) for tick in up.ticks()]


def _curve(line: Line, across: Callable[[float], float], up: Scale) -> Markup:
    """A path, broken where a value is not finite; a lone point is drawn as a mark."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in line.points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    path = "".join("M" + "L".join(f"{number(across(x))} {number(up(y))}" for x, y in thin(run)) for run in runs if len(run) > 1)
    finite = [point for run in runs for point in run]
    marked = finite if line.marks and len(finite) <= _MARKED else [run[0] for run in runs if len(run) == 1]
    return join(
        tag("path", tag("title", line.name), d=path, class_=f"line c{line.colour} k{line.colour}" + (" dashed" if line.dashed else "")) if path else None,
        [mark(across(x), up(y), line.colour, f"{line.name}: {axis_number(y)} at {axis_number(x)}") for x, y in marked],
    )
