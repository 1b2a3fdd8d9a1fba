"""The paper's failures as numbers: the gap to held-out code, how far tiers are from the standard one, how varied that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from megatron_snow.report.charts import Line, figure, phase_chart
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.numbers import DASH, decimal, of, share, words
from megatron_snow.report.parts import Alert, Section, bars, grid, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.rows import Value, value_chart
from megatron_snow.report.sections.training import tokens_by_phase

ANCHOR = "signatures"
_TINTS = {"synthetic": 4, "high_quality": 3}
_THRESHOLD = 0  # grey
_STANDARD = 2
_ITEMS = 6  # that differ most, of a measure (ours)
_REPOSITORIES = 10  # largest (ours)


def section(road: RoadView) -> Section:
    """Built from ``signatures.measure``, which is also written beside the page (signatures.json)."""
    found = road.signatures
    body: list[Child] = [
        *_gap(found.get("overfitting"), road),
        *_bias(found.get("bias")),
        *_diversity(found.get("diversity")),
    ]
    raised = len(found["alarms"])
    lead = (
        f"{of(raised, 'number')} beyond {'its threshold' if raised == 1 else 'their thresholds'}: see Warnings." if raised else "None is beyond its threshold."
    )
    return Section(ANCHOR, "Failure signatures", lead, body)


def alerts(road: RoadView) -> list[Alert]:
    """The alarms, as ``signatures`` words them."""
    found = []
    for alarm in road.signatures["alarms"]:
        kind, _, text = str(alarm).partition(": ")
        found.append(Alert(kind, f"{text[:1].upper()}{text[1:]}.", ANCHOR, "the numbers beside their thresholds."))
    return found


def _gap(found: Mapping[str, Any] | None, road: RoadView) -> list[Child]:
    title = tag("h3", "Over-fitting to the high-quality tier")
    if not found or not found["phases"]:
        return [title, missing("gap", "Training validated on no held-out and high-quality files.")]
    phases, tokens = found["phases"], tokens_by_phase(road)
    panels = [(phase, float(tokens.get(phase) or one["points"][-1]["tokens"])) for phase, one in phases.items()]
    starts = dict(zip(phases, accumulate((amount for _, amount in panels), initial=0.0), strict=False))
    points = [(starts[phase] + point["tokens"], point["gap"]) for phase, one in phases.items() for point in one["points"]]
    drawing = phase_chart(
        "loss on held-out code less loss on high-quality files over tokens", [Line("gap", points, 1, marks=True)], panels, "gap, nats a token"
    )
    note = "Loss on held-out code less loss on high-quality files: the model fits the one more than it learns for the other where it opens."
    rows = [
        [phase, decimal(one["points"][-1]["gap"]), f"{one['widened']:+.3f}", f"{one['rise']:.3f}", "beyond" if one["alarm"] else "within"]
        for phase, one in phases.items()
    ]
    caption = (
        f"Against the end of the phase before; thresholds: the gap opening by {found['gap_threshold']:g}, held-out loss rising by {found['rise_threshold']:g}"
    )
    heads = ["phase", "gap at its end", "opened by", "held-out loss rose by", "thresholds"]
    return [title, grid([figure("Gap to held-out code", drawing, note), tag("div", table(heads, rows, caption=caption))], "plots half")]


def _bias(found: Mapping[str, Any] | None) -> list[Child]:
    title = tag("h3", "Bias of the tiers")
    measured = {tier: one for tier, one in (found or {}).items() if one["measures"]}
    if not measured:
        return [title, missing("divergences", "There is no standard tier to compare with, or no other tier holds a file.")]
    names = list(dict.fromkeys(row["name"] for one in measured.values() for row in one["measures"]))
    by_tier = {tier: {row["name"]: row for row in one["measures"]} for tier, one in measured.items()}
    rows = []
    for name in names:
        values = [
            Value(words(tier), row["divergence"] - row["floor"], _TINTS.get(tier, 1))
            for tier, one in by_tier.items()
            if (row := one.get(name)) and row["divergence"] is not None
        ]
        threshold = next(one[name]["threshold"] for one in by_tier.values() if name in one)
        rows.append((name, [*values, Value("threshold", threshold, _THRESHOLD)]))
    legend = [*((words(tier), _TINTS.get(tier, 1)) for tier in measured), ("threshold", _THRESHOLD)]
    drawing = value_chart("divergence of tiers from the standard tier, beyond what their size makes", rows, "bits beyond the floor", zero=True)
    note = (
        "Jensen-Shannon divergence from the standard tier, less what so few files would show by chance. "
        "The high-quality tier is what selection alone does; only the synthetic one raises an alarm."
    )
    return [title, grid([figure("Distance from the standard tier", drawing, note, legend, lined=False), _most(by_tier)], "plots half")]


def _most(by_tier: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """What differs most, of the synthetic tier where there is one."""
    tier = next((name for name in ("synthetic", "high_quality") if name in by_tier), None)
    if tier is None:
        return None

    def listed(items: Sequence[Sequence[Any]]) -> Child:
        shown = [[tag("code", item), f" {share(here, 1)} against {share(there, 1)}"] for item, here, there in items[:_ITEMS]]
        return [child for index, one in enumerate(shown) for child in (("; ", *one) if index else one)]

    def bits(row: Mapping[str, Any]) -> str:
        return DASH if row["divergence"] is None else f"{row['divergence']:.2f} ({row['floor']:.2f})"

    rows: list[list[Child]] = [[name, listed(row["most"]), bits(row)] for name, row in by_tier[tier].items()]
    caption = f"What differs most between the {words(tier)} and the standard tier: share here against share there; bits of divergence (of them by chance)"
    return tag("div", table(["measure", "differs most", "bits"], rows, texts=2, caption=caption))


def _diversity(found: Mapping[str, Any] | None) -> list[Child]:
    title = tag("h3", "Diversity of the standard tier")
    if not found or not found["measures"]:
        return [title, missing("diversity", "There is no standard tier.")]
    rows: list[list[Child]] = [
        [
            row["name"],
            row["says"],
            f"{row['value']:.3g}",
            f"{'at least' if row['low_is_alarm'] else 'at most'} {row['threshold']:g}",
            "beyond" if row["alarm"] else "within",
        ]
        for row in found["measures"]
    ]
    shares = [row for row in found["measures"] if row["name"] != "effective repositories"]
    marks = [(row["name"], [Value("standard", row["value"], _STANDARD), Value("threshold", row["threshold"], _THRESHOLD)]) for row in shares]
    drawing = value_chart("repetition, largest repository and topics of the standard tier beside their thresholds", marks, "share", zero=True)
    note = "Repeated runs and the largest repository ought to be left of their thresholds, topics right of theirs."
    legend = [("standard", _STANDARD), ("threshold", _THRESHOLD)]
    largest = found["largest"][:_REPOSITORIES]
    most = max((part for _, part in largest), default=0.0)
    return [
        title,
        grid(
            [
                figure("How much of it is new", drawing, note, legend, lined=False),
                tag("div", table(["measure", "what it is", "value", "wanted", ""], rows, texts=2, caption=f"Over {of(found['files'], 'file')}")),
                tag(
                    "div", tag("p", "Largest repositories, share of bytes", class_="note"), bars([(name, part, share(part, 1)) for name, part in largest], most)
                ),
            ],
            "plots half",
        ),
    ]
