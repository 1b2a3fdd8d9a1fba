"""The report: one HTML page that needs nothing beside itself.

No script, no font, no image, no request: a Content-Security-Policy in the page forbids them, so that code of the corpus,
were it ever to slip through the escaping (``html``), could still do nothing. Dark mode and phone width are the style sheet's
work. The same inputs give the same bytes; the page names no path of this machine and no time but the artefacts' own.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.units import format_seconds
from megatron_snow.report.html import Markup, tag
from megatron_snow.report.inputs import open_artefacts
from megatron_snow.report.numbers import count, decimal
from megatron_snow.report.parts import Section, render, tiles
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.sections import annotator, corpus, evaluation, provenance, road, signatures, synthetic, tiers, training, warnings

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
# In the order of the page and of its list of contents.
_SECTIONS = (
    warnings.section,
    road.section,
    corpus.section,
    tiers.section,
    annotator.section,
    synthetic.section,
    training.section,
    signatures.section,
    evaluation.section,
    evaluation.completions,
    provenance.section,
)


def build(inputs: Mapping[str, Path], recipe: dict[str, Any], work: Path) -> dict[str, Any]:
    """Write ``work``/report.html, one self-contained page about the whole road, and ``work``/signatures.json, the failures it
    looked for as numbers (``signatures.measure``); returns its counts (sections, bytes).

    Args:
        inputs: published folders by stage name (``corpus``, ..., ``train general``, ..., ``evaluate enhanced``), in road order. What
            is not among them gets a section that says so.
        recipe: the checked recipe, JSON-able.
        work: where the page goes.

    Raises:
        SnowError: where a folder holds no finished artefact, or a file in one is damaged.
    """
    view = RoadView(open_artefacts(inputs), recipe)
    page = render_page(view)
    data = page.encode()
    write_atomically(work / "report.html", data)
    write_atomically(work / "signatures.json", (json.dumps(view.signatures, indent=1, ensure_ascii=False) + "\n").encode(errors="replace"))
    return {"sections": len(_SECTIONS), "bytes": len(data)}


def render_page(view: RoadView) -> str:
    """The page's text."""
    sections = [make(view) for make in _SECTIONS]
    name = str(view.recipe.get("name", "a road"))
    style = importlib.resources.files("megatron_snow.report").joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{name}: megatron_snow report"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),  # ours, not the corpus's
    )
    body = tag("body", _header(name, view), _contents(sections), tag("main", [render(section) for section in sections]), _footer())
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(name: str, view: RoadView) -> Markup:
    return tag(
        "header",
        tag("h1", name),
        tag("p", "From raw source code to an evaluated code model, and what happened on the way.", class_="subtitle"),
        tiles(_main_numbers(view)),
    )


def _main_numbers(view: RoadView) -> list[tuple[str, str, Any]]:
    """The tiles: only those whose artefacts are there."""
    found: list[tuple[str, str, Any]] = []
    if (made := view.stage("corpus")) and "documents" in made.manifest.counts:
        counts = made.manifest.counts
        found.append(("corpus", count(counts["documents"]), f"files kept of {count(counts.get('documents_in'))}"))
    if (made := view.stage("annotate")) and isinstance(made.manifest.counts.get("auc"), float):
        found.append(("annotator", decimal(made.manifest.counts["auc"]), "ROC-AUC on unseen repositories"))
    trained = training.tokens_by_phase(view)
    if trained:
        found.append(("trained on", count(sum(trained.values())), f"tokens in {len(trained)} phases"))
    results = evaluation.results_by_phase(view)
    if results:
        phase = list(results)[-1]
        found.append(("held-out code", decimal(results[phase].bits_per_byte.heldout.get("all")), f"bits per byte after {phase}"))
        human = results[phase].humaneval
        if human:
            found.append(("HumanEval", f"{100 * human.pass_at_1:.1f} %", f"pass@1, {human.passed} of {human.problems}"))
    found.append(("time", format_seconds(sum(one.manifest.seconds for one in view.artefacts.values())), f"of work in {len(view.artefacts)} arrows"))
    return found


def _contents(sections: list[Section]) -> Markup:
    links = [tag("a", section.title, href=f"#{section.anchor}") for section in sections]
    return tag("nav", tag("div", links), aria_label="contents")


def _footer() -> Markup:
    made = "Made by megatron_snow, an open implementation of Arctic-SnowCoder (arXiv 2409.02326). "
    return tag("footer", made, "Samples of code on this page belong to their authors, under the licences of their repositories.")
