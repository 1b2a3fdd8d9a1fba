"""What sections are made of: tables, bars, samples of code, tiles, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from megatron_snow.report.html import Child, Markup, join, tag

_SAMPLE_LINES = 24  # of a sample file (ours: one screen of a phone)
_SAMPLE_CHARACTERS = 1_600  # ours: minified code has no lines


@dataclass(frozen=True)
class Section:
    """One part of the page, reached from its list of contents."""

    anchor: str
    title: str
    lead: Child
    """One or two sentences: the finding, before its evidence."""
    body: Sequence[Child]


@dataclass(frozen=True)
class Alert:
    """Something a reader should know before believing the rest."""

    kind: str
    """One or two words: ``over-fitting``, ``budget``."""
    text: Child
    """What was seen, in numbers."""
    anchor: str
    """The section that holds its evidence."""
    evidence: Child = None
    """What to look at there, or the evidence itself."""


@dataclass(frozen=True)
class Sample:
    """A piece of untrusted text with where it comes from."""

    name: str
    text: str
    notes: Sequence[str] = ()


def render(section: Section) -> Markup:
    """The section as HTML."""
    return tag(
        "section",
        tag("h2", tag("a", section.title, href=f"#{section.anchor}")),
        tag("p", section.lead, class_="lead") if section.lead else None,
        section.body,
        id=section.anchor,
    )


def missing(what: str, why: str) -> Markup:
    """A line where content would stand that the artefacts do not hold."""
    return tag("p", tag("b", f"No {what}."), " ", why, class_="missing")


def absent(anchor: str, title: str, stage: str) -> Section:
    """The section of a stage that is not among the report's inputs."""
    return Section(anchor, title, None, [missing(title.lower(), f"The road this report was built from has no '{stage}' stage.")])


def table(head: Sequence[Child], rows: Iterable[Sequence[Child]], texts: int = 1, caption: Child = None, foot: Sequence[Child] = ()) -> Markup:
    """A table whose first ``texts`` columns are text and the others numbers; it scrolls by itself where the page is narrow."""

    def line(cells: Sequence[Child]) -> Markup:
        return tag(
            "tr",
            [tag("th", cell, scope="row") if index == 0 else tag("td", cell, class_="t" if index < texts else "n") for index, cell in enumerate(cells)],
        )

    # The caption stands outside: inside it would scroll away with the table.
    scrolled = tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", cell, class_=None if index < texts else "n", scope="col") for index, cell in enumerate(head)])),
            tag("tbody", [line(row) for row in rows]),
            tag("tfoot", line(foot)) if foot else None,
        ),
        class_="scroll",
        tabindex=0,  # so that the keyboard can scroll it
        role="group",
        aria_label=_plain(caption) or ", ".join(filter(None, map(_plain, head))),
    )
    return join(tag("p", caption, class_="note") if caption else None, scrolled)


def _plain(child: Child) -> str:
    """A label's text where it is plain."""
    return child if isinstance(child, str) and not isinstance(child, Markup) else ""


def bars(rows: Iterable[tuple[Child, float, Child]], whole: float, tint: int = 1, mark: float | None = None) -> Markup:
    """One row each: label, a bar as long as value / whole, what it says. Needs no width: made for phones too.

    ``mark``: a value that is marked on every bar; what goes beyond it is in another colour.
    """

    def bar(value: float) -> Markup:
        filled = tag("i", class_=f"f{2 if mark is not None and value > mark else tint}", style=f"width:{_percent(value, whole)}")
        line = tag("i", class_="bar-mark", style=f"left:{_percent(mark, whole)}") if mark is not None else None
        return tag("span", filled, line, class_="bar-track")

    return tag(
        "div",
        [
            tag(
                "div",
                tag("span", label, class_="bar-label"),
                bar(value),
                tag("span", says, class_="bar-value"),
                class_="bar-row",
            )
            for label, value, says in rows
        ],
        class_="bars",
    )


def heat(value: float, most: float, text: str) -> Markup:
    """A table cell's content on a ground as strong as its value."""
    return tag("span", text, class_="heat", style=f"--heat:{_percent(value, most)}")


def samples(title: Child, found: Sequence[Sample], opened: bool = False) -> Markup | None:
    """Samples of text below a line that opens and closes; None where there are none."""
    if not found:
        return None
    return tag(
        "details",
        tag("summary", title),
        [
            tag(
                "div",
                tag("p", tag("code", one.name), [tag("span", note, class_="chip") for note in one.notes], class_="source"),
                code(one.text),
                class_="sample",
            )
            for one in found
        ],
        open=opened,
    )


def code(text: str) -> Markup | None:
    """A block of untrusted text, cut to a screenful; nothing where it is empty."""
    shown = "\n".join(text[:_SAMPLE_CHARACTERS].splitlines()[:_SAMPLE_LINES])
    cut = tag("span", "\n… cut here", class_="cut") if len(shown) + 1 < len(text) else None
    return tag("pre", tag("code", shown, cut), tabindex=0, role="group", aria_label="code") if text.strip() else None


def tiles(items: Iterable[tuple[str, str, Child]]) -> Markup:
    """The page's main numbers: (what, number, a remark)."""
    return tag("dl", [tag("div", tag("dt", what), tag("dd", number), tag("dd", remark, class_="remark")) for what, number, remark in items], class_="tiles")


def grid(children: Iterable[Child], kind: str = "plots") -> Markup:
    """Children side by side, as many as fit."""
    return tag("div", children, class_=kind)


def _percent(value: float, whole: float) -> str:
    return f"{min(100 * value / whole, 100.0) if whole > 0 else 0:.2f}%"
