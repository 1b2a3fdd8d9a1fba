from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Fp8Settings, Layout

MODEL = ModelSettings(hidden=64, ffn=128, layers=4, heads=4, kv_heads=2)
FITS: dict[str, Any] = {"vocabulary": 256, "sequence": 32, "batch": 8, "micro_batch": 1, "processes": 1}


@pytest.mark.parametrize(
    ("layout", "changes", "says"),
    [
        (Layout(tensor=4), {"processes": 4}, "kv_heads 2: choose a layout.tensor that divides model.kv_heads"),
        (Layout(tensor=2), {"processes": 2, "vocabulary": 255}, "padded vocabulary 255: raise model.vocabulary_multiple"),
        (Layout(sequence_parallel=True), {}, "set layout.tensor to 2 or more, or drop sequence_parallel"),
        (Layout(tensor=2, sequence_parallel=True), {"processes": 2, "sequence": 31}, "sequence 31 is not a multiple of layout.tensor x layout.context = 2"),
        (Layout(pipeline=3), {"processes": 3}, "model.layers 4 does not split into 3 pipeline pieces"),
        (Layout(pipeline=2, virtual_pipeline=4), {"processes": 2}, "does not split into 8 pipeline pieces"),
        (Layout(virtual_pipeline=2), {}, "layout.virtual_pipeline 2 needs layout.pipeline >= 2"),
        (Layout(pipeline=2, virtual_pipeline=2), {"processes": 2, "micro_batch": 8}, "1 micro-batches a step is not a multiple of layout.pipeline 2"),
        (Layout(context=2), {"processes": 2, "sequence": 30}, "sequence 30 does not split into 2 x layout.context = 4"),
        (Layout(), {"processes": 3}, "batch 8 is not a multiple of micro_batch 1 x 3 data-parallel replicas"),
        (Layout(tensor=3), {"processes": 3}, "heads 4: choose a layout.tensor that divides model.heads"),
        (Layout(tensor=2), {"processes": 2, "ffn": 129}, "ffn 129: choose a layout.tensor that divides model.ffn"),
        (Layout(pipeline=8), {"processes": 8}, "model.layers 4 does not split into 8 pipeline pieces"),
        (
            Layout(tensor=2, context=2, sequence_parallel=True),
            {"processes": 4, "sequence": 34},
            "sequence 34 is not a multiple of layout.tensor x layout.context = 4",
        ),
        (Layout(context=4), {"processes": 4, "sequence": 36}, "sequence 36 does not split into 2 x layout.context = 8"),
        (Layout(pipeline=4, virtual_pipeline=2), {"processes": 4, "layers": 8, "batch": 6}, "6 micro-batches a step is not a multiple of layout.pipeline 4"),
        (Layout(pipeline=2, virtual_pipeline=2), {"processes": 2, "batch": 8, "micro_batch": 16}, "batch 8 is not a multiple of micro_batch 16"),
        (Layout(data=2), {"processes": 2, "batch": 1}, "batch 1 is not a multiple of micro_batch 1 x 2 data-parallel replicas"),
        (Layout(tensor=2), {"processes": 0}, "0 processes cannot hold the layout tensor 2"),
        (Layout(tensor=2), {"processes": 3}, "3 processes cannot hold the layout tensor 2: start a multiple of 2"),
        (Layout(data=2), {"processes": 1}, "the layout data 2 is for 2 processes, there are 1: leave layout.data out"),
    ],
)
def test_impossible_layout_is_refused_with_the_fix(layout: Layout, changes: dict[str, Any], says: str) -> None:
    shape = {name: value for name, value in changes.items() if name in ("ffn", "layers")}
    numbers = {name: value for name, value in (FITS | changes).items() if name not in shape}
    with pytest.raises(SnowError) as error:
        layout.check(MODEL.model_copy(update=shape), **numbers)
    assert says in str(error.value)


@pytest.mark.parametrize("values", [{"tensor": 0}, {"pipeline": -1}, {"virtual_pipeline": 1}, {"data": 0}, {"expert": 2}])
def test_layout_knows_no_other_values(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Layout(**values)  # type: ignore[arg-type]


def test_data_is_what_the_machine_leaves_over() -> None:
    layout = Layout(tensor=2, pipeline=2)
    assert layout.processes(devices=8) == 8
    assert layout.processes(devices=6) == 4
    assert layout.processes(devices=1) == 4
    assert layout.check(MODEL, **(FITS | {"processes": 8})) == 2
    assert Layout(data=3).processes(devices=8) == 3


MODEL_OF_BLOCKS = ModelSettings(hidden=256, ffn=512, layers=4, heads=4, kv_heads=4)


@pytest.mark.parametrize(
    ("fp8", "layout", "sequence", "message"),
    [
        (Fp8Settings(recipe="delayed", bf16_last=1), Layout(), 128, "do not go with fp8.recipe delayed"),
        (Fp8Settings(recipe="delayed", parameters=True), Layout(), 128, "trains another model"),
        (Fp8Settings(bf16_first=3), Layout(pipeline=2), 128, "each pipeline stage has 2 layers"),
        (Fp8Settings(), Layout(), 120, "in blocks of 16, tokens of a micro-batch 120 is not"),
        (Fp8Settings(recipe="blockwise"), Layout(tensor=8), 128, "in blocks of 128, ffn / layout.tensor 64 is not"),
        (Fp8Settings(recipe="blockwise"), Layout(tensor=2, sequence_parallel=True), 128, "tokens of a micro-batch 64 is not"),
    ],
)
def test_fp8_that_cannot_run_is_refused(fp8: Fp8Settings, layout: Layout, sequence: int, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        fp8.check(MODEL_OF_BLOCKS, layout, sequence, 1)


@pytest.mark.parametrize("recipe", ["delayed", "tensorwise", "blockwise"])
def test_fp8_that_can_run_is_not(recipe: Literal["delayed", "tensorwise", "blockwise"]) -> None:
    Fp8Settings(recipe=recipe).check(MODEL_OF_BLOCKS, Layout(tensor=2, pipeline=2), 256, 1)
