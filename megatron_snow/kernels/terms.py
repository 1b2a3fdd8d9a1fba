"""What the loss of one token is made of, and which part of the vocabulary this process holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

Reduction = Literal["mean", "sum", "none"]

MAXIMUM, EXPONENTIALS, TARGET, LOGITS = range(4)
"""Rows of a shard's statistics, each fp32: largest logit m, sum of exp(x - m), the target's logit (0 in other shards), sum of x."""


@dataclass(frozen=True)
class Terms:
    """loss = lse - (1 - s) x[target] - s mean(x) + z lse^2, with lse = log sum exp(x) over the whole vocabulary."""

    ignore_index: int
    """Rows with this target count nothing and get a gradient of zero."""
    z_loss: float
    """z: PaLM's (arXiv 2204.02311, section 5) weight of the squared log-partition."""
    label_smoothing: float
    """s: as in torch.nn.functional.cross_entropy, spread over all classes."""
    first: int
    """The first vocabulary entry of this shard."""
    vocabulary: int
    """Entries of all shards."""


class Rows(Protocol):
    """The row-wise work between the matrix products; ``logits`` is [rows, V of this shard], ``scale`` fp32 [1] or [rows] (None: 1)."""

    scales_apart: bool
    """Whether a gradient without its scale is cheaper."""

    def loss_and_gradient(self, logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, terms: Terms) -> None:
        """For a whole vocabulary: fill ``losses`` and turn ``logits`` into scale x d loss / d logits, in place."""
        ...

    def statistics(self, logits: torch.Tensor, targets: torch.Tensor, out: torch.Tensor, terms: Terms) -> None:
        """Fill ``out`` [4, rows] with this shard's statistics."""
        ...

    def losses(self, statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
        """The losses [rows] from all shards' statistics [shards, 4, rows]."""
        ...

    def gradient(self, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor | None, terms: Terms) -> None:
        """Turn ``logits`` into scale x d loss / d logits in place, from all shards' statistics."""
        ...


def losses_of(statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
    """``Rows.losses`` in plain torch: a few operations on [rows], once a call."""
    target, logits = statistics[:, TARGET].sum(0), statistics[:, LOGITS].sum(0)
    lse = log_partition(statistics)
    losses = lse - (1.0 - terms.label_smoothing) * target - (terms.label_smoothing / terms.vocabulary) * logits + terms.z_loss * lse.square()
    outside = (targets < 0) | (targets >= terms.vocabulary)
    losses = torch.where(outside, torch.nan, losses)
    return torch.where(targets == terms.ignore_index, 0.0, losses)


def log_partition(statistics: torch.Tensor) -> torch.Tensor:
    """log sum exp over all shards, [rows]."""
    maximum = statistics[:, MAXIMUM].amax(0)
    return maximum + (statistics[:, EXPONENTIALS] * (statistics[:, MAXIMUM] - maximum).exp()).sum(0).log()
