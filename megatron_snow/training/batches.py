"""Which samples a step trains on, and a rank's part of them.

Step k of a phase takes the samples that ``PhaseSettings.samples_of`` names, whatever the layout and whenever the run was
stopped: the order is a function of recipe and seed alone. Replica r of n takes the r-th n-th of each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.groups import Place, context_slice

Batch = dict[str, torch.Tensor]


class Samples(Protocol):
    """A sequence of samples, each int64 [sequence + 1]."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> np.ndarray: ...


class Batches:
    """A rank's micro-batches of a dataset, step by step."""

    def __init__(self, samples: Samples, samples_of: Callable[[int], range], micro_batch: int, vocabulary: int, place: Place, backend: Backend) -> None:
        """``samples_of``: the samples of a step over all replicas, as many as ``micro_batch`` x replicas divides."""
        self.samples, self.samples_of, self.micro_batch, self.vocabulary = samples, samples_of, micro_batch, vocabulary
        self.place, self.backend = place, backend

    def indices(self, step: int) -> list[int]:
        """The samples this rank's replica reads in a step, in order."""
        samples = self.samples_of(step)
        own = len(samples) // self.place.data
        return list(samples[self.place.data_rank * own : (self.place.data_rank + 1) * own])

    def step(self, step: int) -> list[Batch]:
        """The step's micro-batches: tokens, labels and positions, each [micro_batch, sequence / context] on the device."""
        indices = self.indices(step)
        return [self._micro_batch(indices[start : start + self.micro_batch]) for start in range(0, len(indices), self.micro_batch)]

    def _micro_batch(self, indices: list[int]) -> Batch:
        rows = np.stack([self.samples[index] for index in indices])
        if int(rows.max()) >= self.vocabulary or int(rows.min()) < 0:
            raise SnowError(
                f"token {int(rows.max())} is outside the vocabulary of {self.vocabulary}: made with another tokenizer; run the tokenize arrow again"
            )
        tokens = torch.from_numpy(rows).to(self.backend.device)
        positions = torch.arange(rows.shape[1] - 1, device=self.backend.device).expand(len(indices), -1)
        return context_slice({"tokens": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous(), "positions": positions.contiguous()})
