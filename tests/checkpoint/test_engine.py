from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import latest, read_description, step_folder
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.records import METRICS, read_rows
from tests.checkpoint.conftest import AT_STEP_3, UNTIED
from tests.training import ranks, small


@pytest.mark.parametrize(
    ("layout", "world"),
    [(Layout(), 1), (Layout(data=2), 2), (Layout(tensor=2, sequence_parallel=True), 2), (Layout(pipeline=2, virtual_pipeline=2), 2)],
    ids=lambda value: value.describe() if isinstance(value, Layout) else str(value),
)
def test_checkpoint_goes_on_under_any_layout(layout: Layout, world: int, trained: Path, checkpoint: Path, tokens: Path) -> None:
    work = checkpoint.parents[1]
    ranks.run(small.train_rank, world, small.spec(tokens, work, layout, UNTIED, train=AT_STEP_3))
    expected, found = read_rows(trained / METRICS)[3:], read_rows(work / METRICS)
    assert [row["step"] for row in found] == [4, 5]
    for row, reference in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(reference["loss"], rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(reference["gradient_norm"], rel=1e-5)
    for (_, weight), (_, reference) in zip(read_weights(step_folder(work, 5)), read_weights(step_folder(trained, 5)), strict=True):
        assert (weight - reference).abs().max() < 1e-5


def step_counts(rank: int, world: int, rendezvous: str, folder: Path) -> list[float]:
    """Load a checkpoint, do one step: every parameter's own AdamW step count."""
    import torch

    from megatron_snow.checkpoint.engine import load
    from megatron_snow.parallel.optimizer_fixes import torch_optimizers
    from megatron_snow.training.engine import Engine

    backend, place = ranks.joined(Layout(), rank, world, rendezvous)
    engine = Engine(AT_STEP_3, small.phase(), UNTIED, 256, Layout(), backend, place)
    load(folder, engine.chunks, engine.optimizer, read_description(folder), place)
    row = torch.arange(32)[None]
    engine.step([{"tokens": row, "labels": row, "positions": row}], 1e-3, 4, False)
    return [float(state["step"]) for one in torch_optimizers(engine.optimizer) for state in one.optimizer.state.values()]


def test_every_parameter_counts_its_own_steps(checkpoint: Path) -> None:
    counts = ranks.run(step_counts, 1, checkpoint)[0]
    assert len(counts) == 6 * 4 + 3
    assert set(counts) == {4.0}


def test_damaged_checkpoint_stops_the_run(checkpoint: Path, tokens: Path) -> None:
    part = checkpoint / "__2_0.distcp"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(SnowError, match=r"__2_0\.distcp is not what was saved"):
        ranks.run(small.train_rank, 1, small.spec(tokens, checkpoint.parents[1], Layout(), UNTIED, train=AT_STEP_3))


def test_checkpoint_of_another_model_is_refused(checkpoint: Path, tokens: Path) -> None:
    model = UNTIED.model_copy(update={"rope_theta": 500_000, "tied": True})
    with pytest.raises(SnowError, match=r"of another model \(model\.tied False -> True, model\.rope_theta 10000 -> 500000\)"):
        ranks.run(small.train_rank, 1, small.spec(tokens, checkpoint.parents[1], Layout(), model, train=AT_STEP_3))


def test_whole_checkpoint_before_a_damaged_save_is_used(checkpoint: Path, trained: Path, tokens: Path) -> None:
    work = checkpoint.parents[1]
    shutil.copytree(step_folder(trained, 5), work / "checkpoints" / ".step-00000005.saving")
    assert latest(work) == checkpoint
