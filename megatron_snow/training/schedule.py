"""The learning rate as a function of the step alone: nothing to save, nothing to resume wrongly."""

from __future__ import annotations

import math

from megatron_snow.training.settings import PhaseSettings


def learning_rate(phase: PhaseSettings, step: int) -> float:
    """The rate of optimizer step ``step`` (0 is the first).

    The way up and down is measured in samples, which are steps where the batch is constant: under a batch ramp the rate is
    the same function of the tokens seen. A warm-up step gets the rate of its end, so that the first is not wasted on
    ``start``; a step of the descent that of its beginning, so that the last still trains.
    """
    rate, warmup = phase.learning_rate, phase.steps_of(phase.learning_rate.warmup)
    if step < warmup:
        return rate.start + (rate.peak - rate.start) * (phase.first_sample(step + 1) / phase.first_sample(warmup))
    if rate.decay == "constant" or step < phase.descent:
        return rate.peak
    start, end = phase.first_sample(phase.descent), phase.samples
    progress = min((phase.first_sample(step) - start) / (end - start), 1.0)
    if rate.decay == "cosine":
        return rate.end + (rate.peak - rate.end) * (1 + math.cos(math.pi * progress)) / 2
    return rate.peak + (rate.end - rate.peak) * progress
