"""The linear head: logistic regression on the encoder's vectors, trained with torch, kept as head.safetensors.

Vectors are standardised with the training sections' mean and deviation, and that is folded into the weights afterwards: a
learning rate then means the same for every encoder and pooling. Each section of a labelled file is an example with the file's
label; a file's sections share the weight of one, so that long files do not count thrice. Weights start at zero, the objective
is convex, shuffles come from the seed: the same input gives the same head.

Scores are taken in float64 by one NumPy expression a row, so that they do not depend on how rows are grouped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import canonical_json
from megatron_snow.quality.settings import HeadSettings

_ABOUT = "annotator"  # key of the metadata


@dataclass(frozen=True)
class LinearHead:
    """``sigmoid(vector @ weight + bias)``."""

    weight: np.ndarray
    """float32 [width]"""
    bias: float

    def section_scores(self, vectors: np.ndarray) -> np.ndarray:
        """Score of each section in (0, 1), float64 [n], from float32 [n, width]."""
        logits = (vectors.astype(np.float64) * self.weight.astype(np.float64)).sum(axis=1) + self.bias
        return 1.0 / (1.0 + np.exp(-logits))

    def file_scores(self, vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mean over each file's sections, float64 [files]; ``counts`` (int [files], all >= 1) of consecutive rows each."""
        if not len(counts):
            return np.empty(0)
        return np.add.reduceat(self.section_scores(vectors), np.concatenate(([0], np.cumsum(counts)[:-1]))) / counts

    def save(self, path: Path, about: dict[str, str]) -> None:
        """Write the head with ``about`` (encoder, pooling, section) as metadata, as one JSON value: the format does not keep the order of several."""
        from safetensors.numpy import save

        tensors = {"weight": self.weight.astype(np.float32)[None], "bias": np.array([self.bias], dtype=np.float32)}
        write_atomically(path, save(tensors, metadata={_ABOUT: canonical_json(about)}))


def load_head(path: Path) -> tuple[LinearHead, dict[str, str]]:
    """A saved head and its metadata. Raises SnowError where the file is not one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return LinearHead(file.get_tensor("weight")[0], float(file.get_tensor("bias")[0])), json.loads(file.metadata()[_ABOUT])
    except (OSError, SafetensorError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SnowError(f"{path} is not an annotator's head ({error}); delete its folder and run annotate again") from error


def train_head(vectors: np.ndarray, counts: np.ndarray, positive: np.ndarray, settings: HeadSettings, seed: int) -> tuple[LinearHead, list[float]]:
    """Fit the head; returns it and the mean training loss of each epoch.

    ``vectors`` float32 [sections, width], ``counts`` int [files], ``positive`` bool [files]; a file's sections are consecutive.
    """
    import torch

    mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64) + 1e-6
    inputs = torch.from_numpy(((vectors - mean) / deviation).astype(np.float32))
    labels = torch.from_numpy(np.repeat(positive, counts).astype(np.float32))
    weights = torch.from_numpy(np.repeat(1.0 / counts, counts).astype(np.float32))
    linear = torch.nn.Linear(inputs.shape[1], 1)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(inputs) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(seed % 2**63)
    losses = []
    for _ in range(settings.epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(inputs), generator=generator), settings.batch):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(linear(inputs[batch]).squeeze(1), labels[batch], weights[batch], reduction="sum")
            optimizer.zero_grad()
            (loss / weights[batch].sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / float(weights.sum()))
    weight = linear.weight.detach().numpy()[0].astype(np.float64) / deviation
    bias = float(linear.bias.detach()) - float((weight * mean).sum())
    return LinearHead(weight.astype(np.float32), float(np.float32(bias))), losses
