"""A metric's arms and comparisons as one SVG file of its own: means with intervals, every seed a dot, differences around zero.

Drawn with the report's own primitives, so that text is escaped and stays text; colours follow the reader's dark mode. Arms
are named at their rows: colour carries nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from megatron_snow.report.html import Markup, join, tag
from megatron_snow.report.numbers import axis_number
from megatron_snow.report.scale import Scale, fit

WIDTH, _LEFT, _RIGHT, _PITCH = 640, 210, 620, 26  # canvas units; ours: fits a README's column, names of 28 characters
_NAME = 30  # characters of a row's name that fit _LEFT
_STYLE = (
    "svg{color-scheme:light dark;--ink:#1d2125;--soft:#5a636d;--rule:#dfdcd6;--mark:#1f6fb8}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e4e6e8;--soft:#9da7b1;--rule:#343b42;--mark:#6cb0f2}}"
    "text{font:12px system-ui,sans-serif;fill:var(--ink)}.soft{fill:var(--soft)}.head{font-weight:600}"
    ".grid{stroke:var(--rule)}.reach{stroke:var(--mark);stroke-width:2}.mean{fill:var(--mark)}.run{fill:none;stroke:var(--soft)}"
    ".zero{stroke:var(--soft);stroke-dasharray:4 3}"
)

Row = tuple[str, Mapping[str, Any], Sequence[float]]
"""Name, the estimate (value, low, high), and single runs."""


def draw(metric: str, found: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The SVG text of one metric of results.json."""
    better = "lower" if found["lower_is_better"] else "higher"
    arms: list[Row] = [(arm, values, list(values["by_seed"].values())) for arm, values in found["arms"].items()]
    differences: list[Row] = [(f"{one['arm']} - {one['against']}", one, ()) for one in found["comparisons"]]
    top, bottom = _panel(arms, f"{metric}: {found['unit']}, {better} is better", 0, zero=False, titles=titles)
    parts = [top]
    if differences:
        notes = {f"{one['arm']} - {one['against']}": one["verdict"] for one in found["comparisons"]}
        lower, bottom = _panel(differences, "Difference, paired by seed and problem", bottom + 14, zero=True, titles=notes)
        parts.append(lower)
    label = f"{metric}: means and 95 % intervals of {len(arms)} arms, and their differences"
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tag(
        "svg",
        tag("title", label),
        tag("style", Markup(_STYLE)),
        parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {bottom}",
        width=WIDTH,
        role="img",
    )


def _panel(rows: Sequence[Row], title: str, top: float, zero: bool, titles: Mapping[str, str]) -> tuple[Markup, float]:
    """One block of rows on an axis of its own, and where it ends."""
    first = top + 30
    bottom = first + _PITCH * len(rows)
    across = fit([*_ends(rows), *([0.0] if zero else [])], _LEFT, _RIGHT)
    ticks = [
        join(
            tag("line", x1=_n(across(at)), x2=_n(across(at)), y1=_n(first), y2=_n(bottom), class_="grid"),
            _text(across(at), bottom + 15, axis_number(at), "soft"),
        )
        for at in across.ticks()
    ]
    line = tag("line", x1=_n(across(0)), x2=_n(across(0)), y1=_n(first), y2=_n(bottom), class_="zero") if zero else None
    drawn = [_row(row, first + _PITCH * (index + 0.5), across, titles.get(row[0], "")) for index, row in enumerate(rows)]
    return join(_text(4, top + 18, title, "head", "start"), ticks, line, drawn), bottom + 22


def _row(row: Row, middle: float, across: Scale, title: str) -> Markup:
    name, values, runs = row
    words = f"{name}{': ' + title if title else ''}: {values['value']:.4g}"
    reach = None
    if values["low"] is not None:
        words += f", 95 % {values['low']:.4g} to {values['high']:.4g}"
        reach = tag("line", x1=_n(across(values["low"])), x2=_n(across(values["high"])), y1=_n(middle), y2=_n(middle), class_="reach")
    return tag(
        "g",
        tag("title", words),
        _text(_LEFT - 8, middle + 4, name if len(name) <= _NAME else name[: _NAME - 1] + "…", None, "end"),
        [tag("circle", cx=_n(across(run)), cy=_n(middle - 6), r=2.5, class_="run") for run in runs],
        reach,
        tag("circle", cx=_n(across(values["value"])), cy=_n(middle), r=4.5, class_="mean"),
    )


def _ends(rows: Sequence[Row]) -> Iterable[float]:
    for _, values, runs in rows:
        yield from (value for value in (values["value"], values["low"], values["high"], *runs) if value is not None)


def _text(x: float, y: float, text: str, kind: str | None, anchor: str = "middle") -> Markup:
    return tag("text", text, x=_n(x), y=_n(y), text_anchor=anchor, class_=kind)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
