"""What a reader should know before believing the rest, each with its evidence, gathered from all sections."""

from __future__ import annotations

from megatron_snow.report.html import Child, tag
from megatron_snow.report.numbers import of
from megatron_snow.report.parts import Section
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.sections import annotator, evaluation, provenance, road, signatures, synthetic, tiers, training

_SOURCES = (training.alerts, signatures.alerts, tiers.alerts, synthetic.alerts, annotator.alerts, evaluation.alerts, road.alerts, provenance.alerts)
_CHECKED = (
    "over-fitting to a tier, repetition beyond the recipe's warn_epochs, a synthetic tier unlike the standard one, little diversity, copied files in a "
    "tier, held-out lines in the standard tier, an annotator no better than chance, code that costs more bits after a later phase, benchmarks that "
    "the corpus was not searched for, arrows over their budget, artefacts made from other inputs than the ones shown"
)


def section(view: RoadView) -> Section:
    """Built by every section's ``alerts``."""
    found = [alert for alerts in _SOURCES for alert in alerts(view)]
    looked = tag("p", f"Looked for: {_CHECKED}.", class_="note")
    if not found:
        return Section("warnings", "Warnings", "Nothing was found that calls the numbers below into question.", [looked])
    rows: list[Child] = [
        tag(
            "li",
            tag("b", alert.kind),
            tag(
                "div",
                tag("p", alert.text),
                tag("div", tag("a", "evidence", href=f"#{alert.anchor}"), ": ", alert.evidence, class_="note") if alert.evidence else None,
            ),
        )
        for alert in found
    ]
    lead = f"{of(len(found), 'thing')} to know before believing the numbers below."
    return Section("warnings", "Warnings", lead, [tag("ul", rows, class_="alerts"), looked])
