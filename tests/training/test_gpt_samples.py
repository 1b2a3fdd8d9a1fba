"""The dataset's dictionaries in megatron-core's own terms, through a real GPTModel: the engine's losses come out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.gpt import GPTSamples
from megatron_snow.parallel.settings import Layout
from tests.training import ranks, small
from tests.training.steps import Case, engine_of


def both_losses(rank: int, world: int, rendezvous: str, tokens: Path) -> tuple[float, float]:
    """Of four samples: megatron's way (a DataLoader's batch, the model, loss_mask), and the engine's."""
    from megatron_snow.training.batches import Batches

    backend, place = ranks.joined(Layout(), rank, world, rendezvous)
    engine, _ = engine_of(Case(), Layout(), backend, place)
    data = PhaseDataset(tokens, {"standard": 3.0, "high_quality": 1.0}, 32, 4, 7)
    [batch] = torch.utils.data.DataLoader(GPTSamples(data, end_of_document=0, eod_mask_loss=True), batch_size=4)
    with torch.no_grad():
        losses = engine.chunks[0](batch["tokens"], batch["position_ids"], None, labels=batch["labels"])
    unmasked = (losses * (batch["tokens"] != 0)).sum() / (batch["tokens"] != 0).sum()
    masked = (losses * batch["loss_mask"]).sum() / batch["loss_mask"].sum()
    assert masked == unmasked
    ours = engine.loss(Batches(data, lambda step: range(4), 4, small.VOCABULARY, place, backend).step(0))
    return losses.mean().item(), ours


def test_a_gpt_model_takes_the_batches(tokens: Path) -> None:
    theirs, ours = ranks.run(both_losses, 1, tokens)[0]
    assert theirs == pytest.approx(ours, rel=1e-6)
