"""The linear head: logistic or linear regression on the encoder's vectors, trained with torch.

Vectors are standardised with the training sections' mean and deviation, and that is folded into the weights afterwards: a
learning rate then means the same for every encoder and pooling. Each section of a labelled file is an example with the file's
label; a file's sections share the weight of one, so that long files do not count thrice. Weights start at zero, the objective
is convex, shuffles come from the seed: the same input gives the same head.

Scores are taken in float64 by one NumPy expression a row, so that they do not depend on how rows are grouped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from megatron_snow.quality.settings import HeadSettings


@dataclass(frozen=True)
class LinearHead:
    """``sigmoid(vector @ weight + bias)`` for classes; without the sigmoid for labels on a scale, brought to [0, 1]."""

    weight: np.ndarray
    """float32 [width]"""
    bias: float
    task: Literal["classification", "regression"] = "classification"

    def section_scores(self, vectors: np.ndarray) -> np.ndarray:
        """Score of each section, float64 [n], from float32 [n, width]: in (0, 1), or near [0, 1] for a regression."""
        outputs = (vectors.astype(np.float64) * self.weight.astype(np.float64)).sum(axis=1) + self.bias
        return outputs if self.task == "regression" else 1.0 / (1.0 + np.exp(-outputs))

    def file_scores(self, vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mean over each file's sections, float64 [files]; ``counts`` (int [files], all >= 1) of consecutive rows each."""
        if not len(counts):
            return np.empty(0)
        return np.add.reduceat(self.section_scores(vectors), np.concatenate(([0], np.cumsum(counts)[:-1]))) / counts


@dataclass(frozen=True)
class Trained:
    """A head and how its training went."""

    head: LinearHead
    losses: list[float]
    """Mean training loss of each epoch."""
    held_out_losses: list[float]
    """The same on the held-out files, after each epoch."""
    best_epoch: int
    """From 1: the epoch whose weights the head has."""


def train_head(
    vectors: np.ndarray,
    counts: np.ndarray,
    labels: np.ndarray,
    settings: HeadSettings,
    seed: int,
    held_out: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    task: Literal["classification", "regression"] = "classification",
) -> Trained:
    """Fit the head.

    ``vectors`` float32 [sections, width], ``counts`` int [files], ``labels`` float [files] in [0, 1] (bool for classes); a file's sections
    are consecutive. ``held_out``: the same three of files to watch; with ``settings.patience`` training ends when their loss has not
    fallen for so many epochs. The head is that of the epoch with their lowest loss; without ``held_out``, of the last.
    """
    import torch

    classes = task == "classification"
    mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64) + 1e-6

    def prepared(some: np.ndarray, count: np.ndarray, label: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = torch.from_numpy(((some - mean) / deviation).astype(np.float32))
        return rows, torch.from_numpy(np.repeat(label, count).astype(np.float32)), torch.from_numpy(np.repeat(1.0 / count, count).astype(np.float32))

    def cost(rows: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Summed over files."""
        outputs = linear(rows).squeeze(1)
        if classes:
            return torch.nn.functional.binary_cross_entropy_with_logits(outputs, label, weight, reduction="sum")
        return (weight * (outputs - label) ** 2).sum()

    inputs, targets, weights = prepared(vectors, counts, labels)
    watched = prepared(*held_out) if held_out is not None else None
    linear = torch.nn.Linear(inputs.shape[1], 1)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(inputs) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(seed % 2**63)
    losses: list[float] = []
    held_out_losses: list[float] = []
    best = 0
    kept = (linear.weight.detach().clone(), linear.bias.detach().clone())
    for epoch in range(settings.epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(inputs), generator=generator), settings.batch):
            loss = cost(inputs[batch], targets[batch], weights[batch])
            optimizer.zero_grad()
            (loss / weights[batch].sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / float(weights.sum()))
        if watched is not None:
            with torch.no_grad():
                held_out_losses.append(cost(*watched).item() / float(watched[2].sum()))
        if watched is None or held_out_losses[-1] < min(held_out_losses[:-1], default=float("inf")):
            best, kept = epoch, (linear.weight.detach().clone(), linear.bias.detach().clone())
        if settings.patience is not None and epoch - best >= settings.patience:
            break
    weight = kept[0].numpy()[0].astype(np.float64) / deviation
    bias = float(kept[1]) - float((weight * mean).sum())
    return Trained(LinearHead(weight.astype(np.float32), float(np.float32(bias)), task), losses, held_out_losses, best + 1)
