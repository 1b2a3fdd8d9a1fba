"""The road: each arrow with what it counted and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_snow.artifacts.units import format_bytes, format_count, format_seconds
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.numbers import count, mixture, words
from megatron_snow.report.parts import Alert, Section, bars
from megatron_snow.report.road_view import RoadView

DOES = {
    "corpus": "raw code filtered, deduplicated, decontaminated: the standard tier, and repositories held out",
    "tokenizer": "a byte-level BPE for all token counts that follow",
    "annotate": "an encoder scores files; the best of each language are the high-quality tier",
    "synthesize": "a served language model writes files seeded by the best ones: the synthetic tier",
    "tokenize": "tiers into documents of one language and repository, as token ids",
    "base": "a Hugging Face model as the checkpoint that training starts from",
    "train": "the model sees this phase's blend",
    "convert": "the checkpoint as a Hugging Face model",
    "evaluate": "bits per byte on held-out code, HumanEval",
}


def section(road: RoadView) -> Section:
    """Built from the manifests alone."""
    total = sum(one.manifest.seconds for one in road.artefacts.values())
    longest = max((one.manifest.seconds for one in road.artefacts.values()), default=0.0)
    size = sum(_size(one) for one in road.artefacts.values())
    lead = f"{len(road.artefacts)} artefacts in {format_seconds(total)} of work, {format_bytes(size)} on disk; each arrow reads what the ones above it wrote."
    body: list[Child] = [tag("ol", [_arrow(one, longest, road.recipe) for one in road.artefacts.values()], class_="road"), _budgets(road)]
    return Section("road", "The road", lead, body)


def spent(road: RoadView) -> dict[str, tuple[float, float | None]]:
    """Arrow -> seconds its artefacts took, all phases together, and the recipe's budget for it, where it gives one."""
    used: dict[str, float] = {}
    for name, one in road.artefacts.items():
        arrow = name.partition(" ")[0]
        used[arrow] = used.get(arrow, 0.0) + one.manifest.seconds
    return {arrow: (seconds, road.recipe.get("budget", {}).get(arrow)) for arrow, seconds in used.items()}


def alerts(road: RoadView) -> list[Alert]:
    """Arrows that took longer than the recipe allows them."""
    over = [
        f"{arrow} took {format_seconds(seconds)} of {format_seconds(budget)}"
        for arrow, (seconds, budget) in spent(road).items()
        if budget is not None and seconds > budget
    ]
    return [Alert("over budget", f"{', '.join(over)}.", "road", "time against budget, below the list of arrows.")] if over else []


def _budgets(road: RoadView) -> Child:
    """Each arrow's time as a share of what the recipe allows it; nothing where it allows nothing in particular."""
    found = {arrow: (seconds, float(budget)) for arrow, (seconds, budget) in spent(road).items() if budget}
    if not found:
        return None
    most = max(1.0, *(seconds / budget for seconds, budget in found.values()))
    rows = [
        (arrow, seconds / budget, f"{format_seconds(seconds)} of {format_seconds(budget)}" + (", over" if seconds > budget else ""))
        for arrow, (seconds, budget) in found.items()
    ]
    all_used, all_given = (sum(numbers) for numbers in zip(*found.values(), strict=True))
    rows.append(("these together", all_used / all_given, f"{format_seconds(all_used)} of {format_seconds(all_given)}"))
    return [tag("h3", "Time against budget"), bars(rows, most, mark=1.0), tag("p", "The line in a bar is the budget; it limits nothing.", class_="note")]


def _arrow(one: Artefact, longest: float, recipe: Mapping[str, Any]) -> Markup:
    arrow = one.name.partition(" ")[0]
    does = DOES.get(arrow, "")
    if arrow == "train" and one.phase:
        settings = recipe.get("train", {}).get("phases", {}).get(one.phase, {})
        does = f"the model trains on {mixture(settings)}" if settings.get("blend") else does
    seconds = one.manifest.seconds
    width = f"width:{100 * seconds / longest if longest else 0:.2f}%"
    return tag(
        "li",
        tag("b", one.name),
        tag("div", does, tag("div", counts(one), class_="counts"), class_="what"),
        tag(
            "span",
            tag("span", format_bytes(_size(one)), class_="soft"),
            tag("span", format_seconds(seconds)),
            tag("span", tag("i", class_="f1", style=width), class_="bar-track"),
            class_="time",
        ),
    )


def counts(one: Artefact) -> list[Child]:
    """The plain numbers an arrow counted, each with its name; breakdowns by rule, tier or language have sections of their own."""
    numbers = {key: value for key, value in one.manifest.counts.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    return [tag("span", words(key), " ", tag("b", _number(key, value))) for key, value in numbers.items()]


def _number(key: str, value: float) -> str:
    if key.endswith("bytes"):
        return format_bytes(value)
    return count(value) if isinstance(value, int) else format_count(float(f"{value:.4g}"))


def _size(one: Artefact) -> int:
    return sum(entry.bytes for entry in one.manifest.files.values())
