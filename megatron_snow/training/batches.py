"""Which samples a step trains on, and a rank's part of them.

Step k of a phase takes the samples that ``PhaseSettings.samples_of`` names, whatever the layout and whenever the run was
stopped: the order is a function of recipe and seed alone. Replica r of n takes the r-th n-th of each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.groups import Place, context_slice
from megatron_snow.parallel.packing import Ints, Packing, pack, packed_parameters

Batch = dict[str, Any]
"""A micro-batch on the device: ``tokens``, ``labels``, ``positions`` int64 [micro_batch, sequence / context]. With documents
kept apart these are one row, padded and cut as ``parallel.packing`` says, with ``packed`` (megatron's PackedSeqParams) and
``weights`` float32, which make the mean over the step's tokens of a row of losses (0 on padding)."""


class Documents(Protocol):
    """A sample: its tokens, int64 [sequence + 1], and the cumulative lengths of its documents, from 0 to the sequence."""

    @property
    def tokens(self) -> Ints: ...
    @property
    def cumulative_lengths(self) -> Ints: ...


class Samples(Protocol):
    """A sequence of samples (``blend.dataset.PhaseDataset``)."""

    def __len__(self) -> int: ...
    def sample(self, i: int) -> Documents: ...


class Batches:
    """A rank's micro-batches of a dataset, step by step."""

    def __init__(
        self,
        samples: Samples,
        samples_of: Callable[[int], range],
        micro_batch: int,
        vocabulary: int,
        place: Place,
        backend: Backend,
        apart: bool = False,
        rows: int = 1,
    ) -> None:
        """A dataset as a rank sees it.

        Args:
            samples: the dataset.
            samples_of: the samples of a step over all replicas, as many as ``micro_batch`` x replicas divides.
            micro_batch: sequences in one forward pass.
            vocabulary: tokens are below it.
            place: which rank this is.
            backend: whose device the batches go to.
            apart: keep packed documents apart.
            rows: what a tensor rank's tokens of packed documents are a multiple of (FP8's blocks).
        """
        self.samples, self.samples_of, self.micro_batch, self.vocabulary = samples, samples_of, micro_batch, vocabulary
        self.place, self.backend, self.apart, self.rows = place, backend, apart, rows

    def indices(self, step: int) -> list[int]:
        """The samples this rank's replica reads in a step, in order."""
        samples = self.samples_of(step)
        own = len(samples) // self.place.data
        return list(samples[self.place.data_rank * own : (self.place.data_rank + 1) * own])

    def step(self, step: int) -> list[Batch]:
        """The step's micro-batches, as many on every rank and of one shape."""
        indices = self.indices(step)
        groups = [indices[start : start + self.micro_batch] for start in range(0, len(indices), self.micro_batch)]
        micro_batches = [[self.samples.sample(index) for index in group] for group in groups]
        rows = [self._rows(documents) for documents in micro_batches]
        if not self.apart:
            return [self._whole(row) for row in rows]
        lengths = [[one.cumulative_lengths for one in documents] for documents in micro_batches]
        packings = pack(lengths, self.place.context, self.rows * self.place.tensor)
        return [self._packed(row, packing) for row, packing in zip(rows, packings, strict=True)]

    def _rows(self, documents: list[Documents]) -> Ints:
        rows = np.stack([one.tokens for one in documents])
        if int(rows.max()) >= self.vocabulary or int(rows.min()) < 0:
            raise SnowError(
                f"token {int(rows.max())} is outside the vocabulary of {self.vocabulary}: made with another tokenizer; run the tokenize arrow again"
            )
        return rows

    def _whole(self, rows: Ints) -> Batch:
        tokens = torch.from_numpy(rows).to(self.backend.device)
        positions = torch.arange(rows.shape[1] - 1, device=self.backend.device).expand(len(rows), -1)
        return context_slice({"tokens": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous(), "positions": positions.contiguous()})

    def _packed(self, rows: Ints, packing: Packing) -> Batch:
        """One row of all samples' documents, this context rank's part of it."""
        part = packing.part(self.place.context, self.place.context_rank)
        source = packing.source[part]
        real = source >= 0
        documents = np.searchsorted(packing.starts, part, side="right") - 1
        row = {
            "tokens": np.where(real, rows[:, :-1].reshape(-1)[source], 0), "labels": np.where(real, rows[:, 1:].reshape(-1)[source], 0),
            "positions": part - packing.starts[documents], "weights": real.astype(np.float32) * (self.place.context / rows[:, 1:].size),
        }  # fmt: skip
        batch: Batch = {name: torch.from_numpy(values[None]).to(self.backend.device) for name, values in row.items()}
        return {**batch, "packed": packed_parameters(packing, self.backend.device)}
