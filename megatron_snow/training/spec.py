"""What a rank is told: one JSON file, the same for all ranks."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.settings import Settings
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.settings import PhaseSettings, TrainSettings


class RunSpec(Settings):
    """One phase of one training run."""

    train: TrainSettings
    phase: str
    model: ModelSettings
    vocabulary: int
    """The tokenizer's, not padded."""
    layout: Layout
    seed: int
    tokens: Path
    tokenizer: Path | None = None
    """Its folder; needed where the phase fills in the middle."""
    previous: Path | None
    """The phase before or the recipe's base, where there is one: a training folder or a step-* checkpoint."""
    work: Path
    rendezvous: str
    """``file:///...`` among processes started here, ``env://`` among processes started by torchrun or Slurm."""
    threads: int
    """CPU threads of each rank."""

    @property
    def settings(self) -> PhaseSettings:
        """The phase's own settings."""
        return self.train.phases[self.phase]
