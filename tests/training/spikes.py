"""A phase whose step ``BAD`` reads noise: a loss that jumps once, for what is done about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.training.anomalies import AnomalySettings
from megatron_snow.training.samples import phase_samples
from megatron_snow.training.settings import LearningRate
from tests.training import small

STEPS, BAD = 30, 24
"""The samples of step ``BAD`` (from 0) are noise."""
SPIKE = {"spike_factor": 1.15, "spike_window": 8}  # the little model goes from 5.3 to about 4 nats; noise is 5.3 or more
PHASE = small.phase(STEPS, blend={"standard": 1.0}, learning_rate=LearningRate(peak=2e-2, warmup=Duration(amount=2, unit="steps"), decay="constant"))


def settings(action: str, **changes: Any) -> Any:
    every = CheckpointSettings(every=Duration(amount=5, unit="steps"), keep=9)
    return small.train(PHASE, checkpoint=every, anomalies=AnomalySettings(spike=action, **(SPIKE | changes)))


def write_corrupted(folder: Path) -> Path:
    """Tokens of which those that step ``BAD`` reads, and no other step, were overwritten with noise on the disk."""
    folder = small.write_tokens(folder)
    data, noise = phase_samples("general", PHASE, folder, 7), np.random.default_rng(1)
    places: dict[int, set[tuple[int, int]]] = {}
    for step in range(STEPS):
        places[step] = {(span.document, span.first + n) for i in PHASE.samples_of(step) for span in data.sample(i).spans for n in range(span.tokens)}
    bad = places[BAD] - set().union(*(places[step] for step in range(STEPS) if step != BAD))
    assert len(bad) > 0.8 * len(places[BAD])
    shard = IndexedDataset(folder / "standard" / "00000")
    starts = np.concatenate([[0], np.cumsum(shard.lengths)])
    tokens = np.memmap(folder / "standard" / "00000.bin", dtype="<u2", mode="r+")
    for document, position in bad:
        tokens[starts[document] + position] = noise.integers(small.VOCABULARY)
    tokens.flush()
    return folder
