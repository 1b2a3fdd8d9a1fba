"""Training: what the loss, the schedule and the machine did, over all phases."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from megatron_snow.artifacts.units import format_seconds
from megatron_snow.report.charts import Line, figure, phase_chart
from megatron_snow.report.html import Child, Markup
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.numbers import DASH, axis_number, count, decimal, mixture, of, words
from megatron_snow.report.parts import Section, absent, grid, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.summaries import MetricsRow, TrainSummary, ValidationRow

TIER_COLOURS = {"heldout": 2, "standard": 1, "high_quality": 3, "synthetic": 4}
_WINDOW = 50  # a phase's steps over this many are averaged for the bold line (ours)

Metrics = Mapping[str, Sequence[MetricsRow]]


def section(road: RoadView) -> Section:
    """Built from train/*/metrics.jsonl and validation.jsonl."""
    trained = road.phases("train")
    if not trained:
        return absent("training", "Training", "train")
    metrics = {phase: artefact.rows("metrics.jsonl", MetricsRow) for phase, artefact in trained.items()}
    if not any(metrics.values()):
        return Section("training", "Training", None, [missing("training curves", "The train artefacts hold no metrics.jsonl.")])
    validation = {phase: artefact.rows("validation.jsonl", ValidationRow) for phase, artefact in trained.items()}
    phases = [(phase, float(max((row.tokens for row in rows), default=0))) for phase, rows in metrics.items() if rows]
    plots = [
        _curve("Loss", "training loss, nats a token", metrics, phases, lambda row: row.loss, smooth=True),
        _validation(validation, phases),
        _curve("Learning rate", "learning rate", metrics, phases, lambda row: row.learning_rate, zero=True),
        _curve("Gradient norm", "gradient norm before clipping", metrics, phases, lambda row: row.gradient_norm, zero=True),
        _curve("Throughput", "tokens a second", metrics, phases, lambda row: row.tokens_per_second, zero=True),
    ]
    return Section("training", "Training", _lead(metrics, phases), [grid(plots), _table(trained, metrics, road)])


def tokens_by_phase(road: RoadView) -> dict[str, int]:
    """Tokens trained on, of each phase that says so."""
    counted = {phase: artefact.manifest.counts.get("tokens") for phase, artefact in road.phases("train").items()}
    return {phase: tokens for phase, tokens in counted.items() if isinstance(tokens, int)}


def _lead(metrics: Metrics, phases: Sequence[tuple[str, float]]) -> str:
    rows = [row for found in metrics.values() for row in found]
    first, last = rows[0].loss, rows[-1].loss
    steps = sum(len(found) for found in metrics.values())
    tokens = sum(amount for _, amount in phases)
    trained = f"{count(tokens)} tokens in {count(steps)} steps over {of(len(phases), 'phase')}; "
    return trained + f"the training loss went from {decimal(first, 2)} to {decimal(last, 2)} nats a token."


def _values(rows: Sequence[MetricsRow], pick: Callable[[MetricsRow], float | None]) -> list[tuple[float, float]]:
    return [(float(row.tokens), _number(pick(row))) for row in rows]


def _number(value: float | None) -> float:
    """NaN for what was not finite when it was written."""
    return float("nan") if value is None else value


def _curve(
    title: str,
    label: str,
    metrics: Metrics,
    phases: Sequence[tuple[str, float]],
    pick: Callable[[MetricsRow], float | None],
    zero: bool = False,
    smooth: bool = False,
) -> Markup:
    lines = []
    for phase, _ in phases:
        points = _values(metrics[phase], pick)
        lines.append(Line(f"{label}, {phase}", points, 0 if smooth else 1, phase))
        if smooth:
            lines.append(Line(f"{label}, running mean, {phase}", running_mean(points), 1, phase))
    return figure(title, phase_chart(f"{label} over tokens", lines, phases, zero), label + (" (grey: each step, bold: running mean)" if smooth else ""))


def running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of the last n finite values at each point, n a fiftieth of the points but five at least."""
    size = max(5, len(points) // _WINDOW)
    recent: deque[float] = deque()
    total, means = 0.0, []
    for x, value in points:
        if math.isfinite(value):
            recent.append(value)
            total += value - (recent.popleft() if len(recent) > size else 0.0)
        means.append((x, total / len(recent) if recent else float("nan")))
    return means


def _validation(validation: Mapping[str, Sequence[ValidationRow]], phases: Sequence[tuple[str, float]]) -> Markup:
    named = dict.fromkeys(row.tier for rows in validation.values() for row in rows)
    if not named:
        return figure("Validation loss", missing("validation rows", "The train artefacts hold no validation.jsonl."))
    tiers = sorted(named, key=lambda tier: (list(TIER_COLOURS).index(tier) if tier in TIER_COLOURS else len(TIER_COLOURS), tier))
    # One curve through all phases: they hand on the weights, so the loss on the same samples goes on where it was.
    starts, done = {}, 0.0
    for phase, tokens in phases:
        starts[phase] = done
        done += tokens
    rows = [(starts[phase] + row.tokens, row) for phase in starts for row in validation.get(phase, [])]
    lines = [Line(words(tier), [(x, _number(row.loss)) for x, row in rows if row.tier == tier], TIER_COLOURS.get(tier, 0), marks=True) for tier in tiers]
    legend = [(words(tier), TIER_COLOURS.get(tier, 0)) for tier in tiers]
    note = "nats a token; heldout was never trained on, the others show how far the model has fitted them"
    return figure("Validation loss by tier", phase_chart("validation loss by tier over tokens", lines, phases), note, legend)


def _table(trained: Mapping[str, Artefact], metrics: Metrics, road: RoadView) -> Markup:
    settings = road.recipe.get("train", {}).get("phases", {})
    rows: list[list[Child]] = []
    for phase, found in metrics.items():
        if not found:
            continue
        rates = [row.tokens_per_second for row in found if row.tokens_per_second]
        peak = max((row.learning_rate for row in found if row.learning_rate is not None), default=None)
        passes = summary.passes if (summary := trained[phase].read("summary.json", TrainSummary)) else {}
        rows.append([
            phase,
            mixture(settings.get(phase, {})),
            ", ".join(decimal(number, 2) for number in passes.values()) or DASH,
            count(found[-1].step),
            count(found[-1].tokens),
            axis_number(peak) if peak is not None else DASH,
            decimal(found[0].loss),
            decimal(found[-1].loss),
            count(statistics.median(rates)) if rates else DASH,
            format_seconds(trained[phase].manifest.seconds),
        ])  # fmt: skip
    return table(["phase", "blend", "passes", "steps", "tokens", "peak rate", "first loss", "last loss", "tokens/s, median", "time"], rows, texts=2)
