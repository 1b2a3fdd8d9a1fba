"""The canvas every chart draws on: its size, its text, marks and keys that differ in shape as well as in colour."""

from __future__ import annotations

import math

from megatron_snow.report.html import Child, Markup, tag

WIDTH, HEIGHT = 400, 250  # canvas units; ours: with 12.5-unit text (style.css) labels are 9 px or more on a 390 px phone
LEFT, RIGHT, TOP, BOTTOM = 46, 390, 36, 216  # the plotting area
_COLOURS = 8  # of style.css: --s1 ... --s8
_RADIUS = 3.2


def colour(index: int) -> int:
    """The palette's colour for the ``index``-th of a set; what comes after the eighth is grey."""
    return index + 1 if index < _COLOURS else 0


def svg(label: str, *children: Child, height: int = HEIGHT) -> Markup:
    """A drawing with its name for those who do not see it."""
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)


def text(x: float, y: float, content: str, anchor: str) -> Markup:
    """A label; ``anchor`` is start, middle or end."""
    return tag("text", content, x=number(x), y=number(y), text_anchor=anchor)


def number(value: float) -> str:
    """A coordinate with one decimal: a tenth of a canvas unit is below a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def mark(x: float, y: float, tint: int, title: str, radius: float = _RADIUS) -> Markup:
    """A point: a circle, square, triangle, diamond, ... by its colour, so that who cannot tell colours tells shapes."""
    return tag("path", tag("title", title), d=_outline(x, y, tint, radius), class_=f"dot f{tint}")


def key(name: str, tint: int, lined: bool) -> Markup:
    """A legend's entry: the line and the mark that stand for ``name``."""
    line = tag("path", d="M0 6H26", class_=f"line c{tint} k{tint}") if lined else None
    shape = tag("path", d=_outline(13, 6, tint, 4), class_=f"dot f{tint}")
    view, kind = ("0 0 26 12", "key") if lined else ("7 0 12 12", "key alone")
    return tag("span", tag("svg", line, shape, viewBox=view, aria_hidden="true", class_=kind), name)


def _outline(x: float, y: float, tint: int, radius: float) -> str:
    if tint in (0, 1):
        turn = f"a{number(radius)} {number(radius)} 0 1 0"
        return f"M{number(x - radius)} {number(y)}{turn} {number(2 * radius)} 0{turn} {number(-2 * radius)} 0z"
    # Corners of regular polygons and stars: (how many, angle of the first in degrees, inner radius where it is a star).
    corners, first, inner = {2: (4, 45, 1), 3: (3, -90, 1), 4: (4, 0, 1), 5: (3, 90, 1), 6: (5, -90, 0.45), 7: (6, 0, 1), 8: (4, 0, 0.4)}[tint]
    size = radius * 1.25
    turns = [(first + 180 * step / corners, size * (inner if step % 2 else 1)) for step in range(2 * corners) if inner < 1 or step % 2 == 0]
    places = [f"{number(x + r * math.cos(math.radians(angle)))} {number(y + r * math.sin(math.radians(angle)))}" for angle, r in turns]
    return "M" + "L".join(places) + "z"


def gridline(x1: float, y1: float, x2: float, y2: float, class_: str = "gridline") -> Markup:
    """A straight line across the drawing."""
    return tag("line", x1=number(x1), x2=number(x2), y1=number(y1), y2=number(y2), class_=class_)
