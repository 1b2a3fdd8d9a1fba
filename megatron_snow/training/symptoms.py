"""The paper's failure signatures, read off the numbers a run writes: over-fitting and too much repetition.

Pure functions of the rows, so that a resumed run and the summary tell the same as the run that saw them first.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from megatron_snow.training.records import VALIDATION, read_rows
from megatron_snow.training.settings import PhaseSettings
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.watch_settings import WatchSettings

REFERENCES = ("standard", "heldout")
"""Tiers whose loss says how the model does on code at large (ours: the corpus itself, and what was never trained on)."""


def overfitting(rows: Sequence[Mapping[str, Any]], trained: Collection[str], settings: WatchSettings) -> list[str]:
    """One message for each time that over-fitting began, in order.

    A trained tier's validation loss falls while a reference's that the phase does not train on rises, each at every one of the
    last ``overfit_validations`` and by ``overfit_margin`` in all. (Ours: the paper reports no loss off its target.)

    Args:
        rows: of validation.jsonl: step, tier, loss; those of single languages do not count.
        trained: the tiers of the phase's mix.
        settings: the thresholds.
    """
    found: list[tuple[int, str]] = []
    for own in sorted(trained):
        for other in (tier for tier in REFERENCES if tier not in trained):
            found += _onsets(own, other, _losses(rows, own), _losses(rows, other), settings)
    return [message for _, message in sorted(found)]


def _losses(rows: Sequence[Mapping[str, Any]], tier: str) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in rows if row["tier"] == tier and "language" not in row and row["loss"] is not None}


def _onsets(own: str, other: str, fitted: Mapping[int, float], lost: Mapping[int, float], settings: WatchSettings) -> list[tuple[int, str]]:
    steps = sorted(fitted.keys() & lost.keys())
    found, before = [], False
    for end in range(settings.overfit_validations, len(steps)):
        window = steps[end - settings.overfit_validations : end + 1]
        down, up = [fitted[step] for step in window], [lost[step] for step in window]
        now = _falls(down, settings.overfit_margin) and _falls([-loss for loss in up], settings.overfit_margin)
        if now and not before:
            found.append((
                window[-1],
                f"over-fitting: from step {window[0]} to {window[-1]} the validation loss of {own} fell from {down[0]:.3f} to {down[-1]:.3f} while that of "
                f"{other} rose from {up[0]:.3f} to {up[-1]:.3f}: end the phase earlier, lower its learning rate, or mix {other} in (replay)",
            ))  # fmt: skip
        before = now
    return found


def _falls(losses: Sequence[float], margin: float) -> bool:
    return all(later < earlier for earlier, later in itertools.pairwise(losses)) and losses[0] - losses[-1] >= margin


def symptoms(spec: RunSpec, passes: Mapping[str, float]) -> list[str]:
    """What a finished phase should be asked about: its validation rows, and how often it went through each tier."""
    phase = spec.settings
    found = overfitting(read_rows(spec.work / VALIDATION), phase.mix, spec.train.watch)
    return [*found, *repetition(passes, phase).values()]


def repetition(passes: Mapping[str, float], phase: PhaseSettings) -> dict[str, str]:
    """Tier -> message, for each tier that was gone through more often than ``warn_epochs`` (paper, table 6)."""
    return {
        tier: f"repetition: {tier} has been gone through {count:.1f} times, warn_epochs is {phase.warn_epochs:g} "
        f"(max_epochs allows {phase.mixture.max_epochs.get(tier, phase.max_epochs):g}): "
        "the paper's model got worse beyond 4; get more of the tier or shorten the phase"
        for tier, count in passes.items()
        if count > phase.warn_epochs
    }  # fmt: skip
