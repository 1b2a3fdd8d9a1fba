"""The learning rate as a function of the step alone: nothing to save, nothing to resume wrongly."""

from __future__ import annotations

import math

from megatron_snow.training.settings import PhaseSettings


def learning_rate(phase: PhaseSettings, step: int) -> float:
    """The rate of optimizer step ``step`` (0 is the first). The first step is warmed to peak/warmup, not wasted on 0."""
    rate, steps = phase.learning_rate, phase.steps
    warmup = rate.warmup.steps(phase.tokens_per_step)
    if step < warmup:
        return rate.peak * (step + 1) / warmup
    if rate.decay == "constant":
        return rate.peak
    start = max(warmup, steps - rate.cooldown.steps(phase.tokens_per_step)) if rate.cooldown else warmup
    progress = min(max((step - start) / max(steps - start, 1), 0.0), 1.0)
    if rate.decay == "cosine":
        return rate.end + (rate.peak - rate.end) * (1 + math.cos(math.pi * progress)) / 2
    return rate.peak + (rate.end - rate.peak) * progress
