"""The fused loss in the model against megatron-core's own: the same training, the same logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from tests.training import ranks, small

UNTIED = small.MODEL.model_copy(update={"tied": False})


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_tokens(tmp_path_factory.mktemp("tokens"))


def rows(tokens: Path, work: Path, loss: str, layout: Layout, world: int, model: ModelSettings, precision: str) -> list[dict]:
    settings = small.train(loss=loss, precision=precision)
    ranks.run(small.train_rank, world, small.spec(tokens, work, layout, model, train=settings))
    return read_rows(work / METRICS) + read_rows(work / VALIDATION)


CASES = {
    "tied": (Layout(), 1, small.MODEL, "fp32", 1e-5),
    "tied, tensor 2, pipeline 2": (Layout(tensor=2, pipeline=2), 4, small.MODEL, "fp32", 1e-5),
    "untied, sequence parallel": (Layout(tensor=2, sequence_parallel=True), 2, UNTIED, "fp32", 1e-5),
    "bf16": (Layout(), 1, small.MODEL, "bf16", 2e-3),
}


@pytest.mark.parametrize("name", CASES)
def test_trains_as_with_megatrons_own_loss(name: str, tokens: Path, tmp_path: Path) -> None:
    layout, world, model, precision, tolerance = CASES[name]
    ours, theirs = (rows(tokens, tmp_path / loss, loss, layout, world, model, precision) for loss in ("fused", "megatron"))
    assert len(ours) == len(theirs) > small.STEPS
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=tolerance)
        if "gradient_norm" in mine:
            assert mine["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=5 * tolerance)


def losses_and_logits(rank: int, world: int, rendezvous: str) -> tuple[torch.Tensor, ...]:
    """Of one model: losses with gradients by recomputation, its logits, and the losses they give."""
    from megatron_snow.model.build import build_chunks, transformer_config
    from megatron_snow.model.initialise import initialise

    backend, _ = ranks.joined(Layout(), rank, world, rendezvous)
    config = transformer_config(small.MODEL, Layout(), backend, "fp32", "none")
    (chunk,) = build_chunks(config, small.MODEL, 256, 32, Layout(), backend)
    initialise([chunk], small.MODEL, 3)
    random = torch.Generator().manual_seed(1)
    tokens, labels = torch.randint(256, (2, 32), generator=random), torch.randint(256, (2, 32), generator=random)
    positions = torch.arange(32).expand(2, -1)
    losses = chunk(tokens, positions, None, labels=labels)
    logits = chunk(tokens, positions, None)
    losses.sum().backward()
    weight = chunk.embedding.word_embeddings.weight
    gradient = weight.grad.clone()
    weight.grad = None
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(2, 32)
    expected.sum().backward()
    return losses.detach(), expected.detach(), gradient, weight.grad


def test_logits_are_as_ever_and_no_promise_is_needed() -> None:
    losses, expected, gradient, expected_gradient = ranks.run(losses_and_logits, 1)[0]
    assert torch.allclose(losses, expected, rtol=1e-5)
    assert torch.allclose(gradient, expected_gradient, atol=1e-5 * expected_gradient.abs().max())
