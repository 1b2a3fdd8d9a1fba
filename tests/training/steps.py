"""Some steps of the engine under a layout, straight from samples: what layouts are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from megatron_snow.model.settings import ModelSettings, Recompute
from megatron_snow.parallel.settings import Layout, Precision
from megatron_snow.training.settings import OptimizerSettings
from tests.training import ranks, small

BATCH, SEQUENCE, VOCABULARY = 8, 32, 256
CLIP = 0.25
Part = tuple[str, tuple[int, ...], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    model: ModelSettings = small.MODEL
    precision: Precision = "fp32"
    apart: bool = False
    recompute: Recompute = "none"
    micro_batch: int = 2
    overlap: bool = False

    def plain(self) -> Case:
        """The case as a single process runs it: with the same results."""
        return Case(self.model, self.precision, self.apart)


@dataclass(frozen=True)
class Trained:
    """Losses and gradient norms (before clipping) of the steps, and this rank's parts of the weights after them."""

    losses: list[float]
    norms: list[float]
    parts: list[Part]

    def whole(self) -> dict[str, torch.Tensor]:
        """The full weights by name, from the parts of a single process."""
        full: dict[str, torch.Tensor] = {}
        for name, _, values in self.parts:  # SwiGLU's halves come in order under one name
            full[name] = torch.cat([full[name], values]) if name in full else values
        return full


@dataclass(frozen=True)
class Document:
    tokens: np.ndarray
    cumulative_lengths: np.ndarray


class Given:
    """One sample of given documents, over and over."""

    def __init__(self, tokens: np.ndarray, starts: np.ndarray) -> None:
        """``starts``: cumulative lengths of the documents, from 0 to the sequence."""
        self.document = Document(tokens, starts)

    def __len__(self) -> int:
        return 8

    def sample(self, i: int) -> Document:
        return self.document


class Scattered:
    """Samples of several documents, some of one token, some as long as the sample; frequent tokens are soon learned."""

    def __len__(self) -> int:
        return 1000

    def sample(self, i: int) -> Document:
        random = np.random.default_rng(i)
        tokens = (small.VOCABULARY * random.random(SEQUENCE + 1) ** 4).astype(np.int64)
        cuts = np.unique(random.integers(1, SEQUENCE, random.integers(0, 6)))
        close = cuts[-1:] + 1 if len(cuts) and cuts[-1] + 1 < SEQUENCE else cuts[:0]  # a document of one token
        return Document(tokens, np.unique(np.concatenate([[0], cuts, close, [SEQUENCE]])))


def engine_of(case: Case, layout: Layout, backend: Any, place: Any) -> tuple[Any, Any]:
    """A fresh engine and its batches."""
    from megatron_snow.model.initialise import initialise
    from megatron_snow.training.batches import Batches
    from megatron_snow.training.engine import Engine

    backend.overlap = case.overlap
    optimizer = OptimizerSettings(epsilon=1e-6, clip=CLIP)  # 1e-8 would make visible steps of a rare token's rounding noise
    phase = small.phase(5, micro_batch=case.micro_batch, cross_document_attention=not case.apart)
    train = small.train(phase, precision=case.precision, recompute=case.recompute, optimizer=optimizer)
    engine = Engine(train, phase, case.model, VOCABULARY, layout, backend, place)
    initialise(engine.chunks, case.model, seed=3)
    engine.optimizer.reload_model_params()
    return engine, Batches(Scattered(), lambda step: range(step * BATCH, (step + 1) * BATCH), case.micro_batch, small.VOCABULARY, place, backend, case.apart)


def train_steps(rank: int, world: int, rendezvous: str, layout: Layout, cases: list[Case]) -> list[Trained]:
    """A job for ``ranks.run``: five steps of each case."""
    from megatron_snow.model.initialise import sharded_parts

    backend, place = ranks.joined(layout, rank, world, rendezvous)
    results = []
    for case in cases:
        engine, batches = engine_of(case, layout, backend, place)
        steps = [engine.step(batches.step(step), 3e-3, step + 1, False) for step in range(5)]
        engine.settle()
        parts = [
            (part.key, tuple(part.global_offset), values.detach().float().clone())
            for chunk in engine.chunks
            for weight, described in sharded_parts(chunk)
            for part, values in zip(described, weight.split([part.local_shape[0] for part in described]), strict=True)
        ]
        results.append(Trained([loss for loss, _, _ in steps], [norm for _, norm, _ in steps], parts))
    return results
