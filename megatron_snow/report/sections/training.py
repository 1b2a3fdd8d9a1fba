"""Training: what the loss, the schedule and the machine did, over all phases."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from megatron_snow.artifacts.units import format_bytes, format_seconds
from megatron_snow.checkpoint.store import latest, read_description
from megatron_snow.report.canvas import colour
from megatron_snow.report.charts import Line, figure, phase_chart
from megatron_snow.report.curves import Metrics, read_metrics
from megatron_snow.report.html import Child, Markup
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.numbers import DASH, axis_number, count, decimal, mixture, of, share, words
from megatron_snow.report.parts import Alert, Section, absent, grid, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.summaries import TrainSummary, ValidationRow

TIER_COLOURS = {"heldout": 2, "standard": 1, "high_quality": 3, "synthetic": 4}
_WINDOW = 50  # a phase's steps over this many are averaged for the bold line (ours)
_CURVES = 8  # languages in one chart (ours: as many as the palette has colours)
_BYTES_A_GIB = 2**30


@dataclass(frozen=True)
class Trained:
    """What one phase left."""

    artefact: Artefact
    metrics: Metrics
    validation: list[ValidationRow]
    summary: TrainSummary | None

    @property
    def tokens(self) -> float:
        """Tokens that the phase trained on."""
        return max(self.metrics.tokens, default=0.0)


def section(road: RoadView) -> Section:
    """Built from train/*/metrics.jsonl, validation.jsonl, summary.json and the last checkpoint's description."""
    if not road.phases("train"):
        return absent("training", "Training", "train")
    phases = {phase: one for phase, one in _read(road).items() if len(one.metrics)}
    if not phases:
        return Section("training", "Training", None, [missing("training curves", "The train artefacts hold no metrics.jsonl.")])
    plots = [
        _curve("Loss", "training loss, nats a token", "loss", phases, smooth=True),
        _validation(phases),
        _heldout_languages(phases),
        _curve("Learning rate", "learning rate", "learning_rate", phases, zero=True),
        _curve("Gradient norm", "gradient norm before clipping", "gradient_norm", phases, zero=True),
        _curve("Throughput", "tokens a second", "tokens_per_second", phases, zero=True),
        _curve("Memory", "GiB of the first process", "memory", phases, zero=True, scale=1 / _BYTES_A_GIB),
        _curve("Utilisation", "model FLOPs utilisation, %", "mfu", phases, zero=True, scale=100),
    ]
    return Section("training", "Training", _lead(phases), [grid(plots), _table(phases, road), _machine_table(phases)])


def alerts(road: RoadView) -> list[Alert]:
    """What the trainer itself found its numbers to be a symptom of."""
    found = []
    for phase, one in _read(road).items():
        for text in one.summary.warnings if one.summary else ():
            kind, _, message = text.partition(": ")
            evidence = "the curves of validation loss by tier." if kind.startswith("over") else "the table's passes over each tier."
            found.append(Alert(kind, f"Phase {phase}: {message or text}.", "training", evidence))
    return found


def tokens_by_phase(road: RoadView) -> dict[str, int]:
    """Tokens trained on, of each phase that says so."""
    counted = {phase: artefact.manifest.counts.get("tokens") for phase, artefact in road.phases("train").items()}
    return {phase: tokens for phase, tokens in counted.items() if isinstance(tokens, int)}


def _read(road: RoadView) -> dict[str, Trained]:
    return {
        phase: Trained(one, read_metrics(one), one.rows("validation.jsonl", ValidationRow), one.read("summary.json", TrainSummary))
        for phase, one in road.phases("train").items()
    }


def _lead(phases: Mapping[str, Trained]) -> str:
    every = list(phases.values())
    first, last = every[0].metrics["loss"][0], every[-1].metrics["loss"][-1]
    steps = sum(len(one.metrics) for one in every)
    tokens = sum(one.tokens for one in every)
    trained = f"{count(tokens)} tokens in {count(steps)} steps over {of(len(phases), 'phase')}; "
    return trained + f"the training loss went from {decimal(first, 2)} to {decimal(last, 2)} nats a token."


def _panels(phases: Mapping[str, Trained]) -> list[tuple[str, float]]:
    return [(phase, one.tokens) for phase, one in phases.items()]


def _curve(title: str, label: str, measure: str, phases: Mapping[str, Trained], zero: bool = False, smooth: bool = False, scale: float = 1.0) -> Markup | None:
    """One measure over all phases; None where no row holds it."""
    if not any(one.metrics.finite(measure) for one in phases.values()):
        return None
    lines = []
    for phase, one in phases.items():
        points = [(tokens, value * scale) for tokens, value in one.metrics.points(measure)]
        lines.append(Line(f"{label}, {phase}", points, 0 if smooth else 1, phase))
        if smooth:
            lines.append(Line(f"{label}, running mean, {phase}", running_mean(points), 1, phase))
    drawing = phase_chart(f"{label} over tokens", lines, _panels(phases), label, zero)
    return figure(title, drawing, "grey: each step; bold: running mean" if smooth else None)


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


def _validation_rows(phases: Mapping[str, Trained]) -> list[tuple[float, ValidationRow]]:
    """(tokens seen since the first phase began, row). A curve goes through all phases: they hand on the weights, so the loss on the same
    samples goes on where it was."""
    rows, done = [], 0.0
    for one in phases.values():
        rows += [(done + row.tokens, row) for row in one.validation]
        done += one.tokens
    return rows


def _validation(phases: Mapping[str, Trained]) -> Markup:
    rows = [(x, row) for x, row in _validation_rows(phases) if row.language is None]
    named = dict.fromkeys(row.tier for _, row in rows)
    if not named:
        return figure("Validation loss", missing("validation rows", "The train artefacts hold no validation.jsonl."))
    tiers = sorted(named, key=lambda tier: (list(TIER_COLOURS).index(tier) if tier in TIER_COLOURS else len(TIER_COLOURS), tier))
    lines = [
        Line(words(tier), [(x, math.nan if row.loss is None else row.loss) for x, row in rows if row.tier == tier], TIER_COLOURS.get(tier, 0), marks=True)
        for tier in tiers
    ]
    legend = [(words(tier), TIER_COLOURS.get(tier, 0)) for tier in tiers]
    note = "heldout was never trained on, the others show how far the model has fitted them"
    drawing = phase_chart("validation loss by tier over tokens", lines, _panels(phases), "validation loss, nats a token")
    return figure("Validation loss by tier", drawing, note, legend)


def _heldout_languages(phases: Mapping[str, Trained]) -> Markup | None:
    """One curve a language of the held-out tier, those with most text first; None where none was validated apart."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for x, row in _validation_rows(phases):
        if row.language is not None:
            curves.setdefault(row.language, []).append((x, math.nan if row.loss is None else row.loss))
    if not curves:
        return None
    lines = [Line(name, points, colour(index), marks=True) for index, (name, points) in enumerate(list(curves.items())[:_CURVES])]
    drawing = phase_chart("held-out loss by language over tokens", lines, _panels(phases), "held-out loss, nats a token")
    rest = len(curves) - len(lines)
    note = "each on held-out documents of its language alone" + (f"; {of(rest, 'language')} with less text only in validation.jsonl" if rest else "")
    return figure("Held-out loss by language", drawing, note, [(line.name, line.colour) for line in lines])


def _table(phases: Mapping[str, Trained], road: RoadView) -> Markup:
    settings = road.recipe.get("train", {}).get("phases", {})
    rows: list[list[Child]] = []
    for phase, one in phases.items():
        metrics = one.metrics
        peak = max(metrics.finite("learning_rate"), default=None)
        passes = one.summary.passes if one.summary else {}
        rows.append([
            phase, mixture(settings.get(phase, {})),
            ", ".join(f"{words(tier)} {number:.2f}" if len(passes) > 1 else f"{number:.2f}" for tier, number in passes.items()) or DASH,
            count(metrics.step[-1]), count(metrics.tokens[-1]), axis_number(peak) if peak is not None else DASH,
            decimal(metrics["loss"][0]), decimal(metrics["loss"][-1]), format_seconds(one.artefact.manifest.seconds),
        ])  # fmt: skip
    return table(
        ["phase", "blend", "passes", "steps", "tokens", "peak rate", "first loss", "last loss", "time"], rows, texts=3, caption="What each phase learned"
    )


def _machine_table(phases: Mapping[str, Trained]) -> Markup:
    """How each phase was run, which does not change what it learned: so it may differ from the recipe as it is now."""

    def middle(metrics: Metrics, measure: str, text: Callable[[float], str]) -> str:
        values = metrics.finite(measure)
        return text(statistics.median(values)) if values else DASH

    rows: list[list[Child]] = []
    for phase, one in phases.items():
        checkpoint = latest(one.artefact.folder)
        made = read_description(checkpoint) if checkpoint else None
        machine = one.artefact.manifest.machine
        most = max(one.metrics.finite("memory"), default=None)
        rows.append([
            phase, _layout(made.layout.model_dump()) if made else DASH, machine.describe() if machine else DASH, made.precision if made else DASH,
            middle(one.metrics, "tokens_per_second", count), middle(one.metrics, "mfu", lambda value: share(value, 1)),
            middle(one.metrics, "seconds", axis_number), format_bytes(most) if most is not None else DASH,
        ])  # fmt: skip
    heads = ["phase", "layout", "machine", "weights", "tokens/s, median", "MFU, median", "s a step, median", "memory, most"]
    caption = "How each phase ran; the layout is the one its last checkpoint was saved under, whatever the recipe says now"
    return table(heads, rows, texts=3, caption=caption)


def _layout(layout: Mapping[str, int | bool | None]) -> str:
    """``tensor 2 x data 4 (8 processes), sequence parallel``."""
    sizes = {name: int(layout[name] or 1) for name in ("tensor", "pipeline", "context", "data")}
    text = " x ".join(f"{name} {size}" for name, size in sizes.items() if size > 1)
    if layout["data"] is None:
        parts = [text or "unsplit", "data as the machine held"]
    else:
        parts = [f"{text} ({math.prod(sizes.values())} processes)" if text else "single process"]
    parts += [f"{layout['virtual_pipeline']} pieces a stage"] if layout["virtual_pipeline"] else []
    parts += ["sequence parallel"] if layout["sequence_parallel"] else []
    return ", ".join(parts)
