"""What a rank's steps really take: the peak of its resident set above what it was before the model was built."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import torch

from megatron_snow.model.settings import padded_vocabulary
from megatron_snow.training.spec import RunSpec
from tests.training import ranks

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def peak_of_steps(rank: int, world: int, rendezvous: str, run: RunSpec, steps: int) -> int:
    """Bytes; a job for ``ranks.run``. Trains ``steps`` steps on random tokens, without loading or saving.

    The baseline is taken after a step of a tiny model, so that pages of code count as imports. glibc is told to give freed
    tensors back at once: with its own thresholds it keeps half as much again and more.
    """
    libc = ctypes.CDLL(None)
    assert libc.mallopt(_MMAP_THRESHOLD, 2**17) and libc.mallopt(_TRIM_THRESHOLD, 2**17)
    backend, place = ranks.joined(run.layout, rank, world, rendezvous)
    tiny = run.model.model_copy(update={"hidden": 64, "ffn": 64})
    _train(run.model_copy(update={"model": tiny, "vocabulary": 128}), 1, backend, place)
    gc.collect()
    before = _resident("VmRSS")
    _train(run, steps, backend, place)
    return _resident("VmHWM") - before


def _train(run: RunSpec, steps: int, backend: Any, place: Any) -> None:
    from megatron_snow.model.initialise import initialise
    from megatron_snow.training.engine import Engine

    phase, vocabulary = run.settings, padded_vocabulary(run.model, run.vocabulary)
    engine = Engine(run.train, phase, run.model, vocabulary, run.layout, backend, place)
    initialise(engine.chunks, run.model, run.seed)
    engine.optimizer.reload_model_params()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    length = phase.sequence // run.layout.context
    for step in range(steps):
        batches = []
        for _ in range(phase.batch // place.data // phase.micro_batch):
            tokens = torch.randint(0, vocabulary, (phase.micro_batch, length + 1))
            positions = torch.arange(length).expand(phase.micro_batch, -1).contiguous()
            batches.append({"tokens": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous(), "positions": positions})
        engine.step(batches, 1e-4, step + 1, False)


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
