"""The samples a phase trains on and is validated on, as functions of the recipe and the seed."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.training.settings import PhaseSettings, TrainSettings


def phase_samples(phase: PhaseSettings, tokens: Path, seed: int) -> PhaseDataset:
    """Every sample of every step. Raises SnowError where a tier is missing, empty, or would be repeated more than ``max_epochs`` allows."""
    rounding = phase.steps * phase.tokens_per_step / phase.tokens  # whole steps may ask for a little more than the budget says
    allowed = dict.fromkeys(phase.blend, phase.max_epochs * rounding)
    return PhaseDataset(tokens, phase.blend, phase.sequence, phase.steps * phase.batch, seed, allowed)


def validation_samples(train: TrainSettings, phase: PhaseSettings, tokens: Path, seed: int) -> dict[str, PhaseDataset]:
    """Tier -> the sequences it is validated on: the first of a pass over it, always the same. Raises SnowError where a tier is missing."""
    return {tier: PhaseDataset(tokens, {tier: 1.0}, phase.sequence, train.validation.samples, seed) for tier in train.validation.tiers}
