"""The gate: every layout trains the same model from the same samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import latest
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from tests.training import ranks, small

UNTIED = small.MODEL.model_copy(update={"tied": False})
ONE_SAVE = small.train(checkpoint=CheckpointSettings(every=Duration(amount=99, unit="steps")))
LAYOUTS = {
    "tensor 2, pipeline 2": (Layout(tensor=2, pipeline=2), 4, small.MODEL),
    "tensor 2, sequence parallel": (Layout(tensor=2, sequence_parallel=True), 2, UNTIED),
    "pipeline 2, interleaved": (Layout(pipeline=2, virtual_pipeline=2), 2, small.MODEL),
    "data 2": (Layout(data=2), 2, UNTIED),
    "context 2": (Layout(context=2), 2, small.MODEL),
}


def run(tokens: Path, work: Path, layout: Layout, world: int, model: ModelSettings) -> Path:
    ranks.run(small.train_rank, world, small.spec(tokens, work, layout, model, train=ONE_SAVE))
    return work


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The single process's runs, by whether embeddings are tied."""
    return {model.tied: run(tokens, tmp_path_factory.mktemp("alone"), Layout(), 1, model) for model in (small.MODEL, UNTIED)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_trains_as_a_single_process(name: str, tokens: Path, tmp_path: Path, alone: dict[bool, Path]) -> None:
    layout, world, model = LAYOUTS[name]
    work = run(tokens, tmp_path, layout, world, model)
    expected = read_rows(alone[model.tied] / METRICS)
    found = read_rows(work / METRICS)
    assert len(found) == small.STEPS and found[-1]["loss"] < found[0]["loss"]
    for row, reference in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(reference["loss"], rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(reference["gradient_norm"], rel=1e-5)
        assert row["learning_rate"] == reference["learning_rate"]
    for row, reference in zip(read_rows(work / VALIDATION), read_rows(alone[model.tied] / VALIDATION), strict=True):
        assert row["loss"] == pytest.approx(reference["loss"], rel=1e-5)
    newest, reference_newest = latest(work), latest(alone[model.tied])
    assert newest is not None and reference_newest is not None
    for (name, weight), (other, reference_weight) in zip(read_weights(newest), read_weights(reference_newest), strict=True):
        assert name == other
        assert (weight - reference_weight).abs().max() < 1e-5, name
