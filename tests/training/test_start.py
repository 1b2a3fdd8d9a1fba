"""A phase starts from a Hugging Face model, or from a checkpoint the user names, as from the phase before."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import find_checkpoint, read_description, step_folder
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.convert import to_checkpoint
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.samples import phase_samples, validation_samples
from megatron_snow.training.settings import OptimizerSettings
from megatron_snow.training.start import starting_checkpoint
from tests.convert import hub
from tests.training import ranks, small

TRAIN = small.train(small.phase(3), optimizer=OptimizerSettings(epsilon=1e-4))  # 1e-6 would make visible steps of rounding noise
FOUR = [Layout(), Layout(tensor=2, pipeline=2, sequence_parallel=True)]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Case -> (Hugging Face model, training folder with its checkpoint for the small tokenizer)."""
    folder = tmp_path_factory.mktemp("bases")
    made = {}
    for number, case in enumerate(("llama", "qwen2", "qwen2, tied")):
        rows = small.VOCABULARY if case == "qwen2, tied" else 256  # the tokenizer's 200 are padded to 256: by added rows, or the model has them
        model = hub.make(folder / str(number), case, vocab_size=rows)
        to_checkpoint(model, folder / f"{number} brought", vocabulary=small.VOCABULARY)
        made[case] = (model, folder / f"{number} brought")
    return made


def hugging_face_loss(model: Path, rows: list[np.ndarray]) -> float:
    """Mean cross entropy a token of transformers' own model, fp32."""
    batch = torch.from_numpy(np.stack(rows))
    logits = hub.logits(model, batch[:, :-1])
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()))


def first_batch(tokens: Path) -> list[np.ndarray]:
    phase = TRAIN.phases["general"]
    samples = phase_samples("general", phase, tokens, seed=7)
    return [samples[index] for index in range(phase.batch)]


def run(tokens: Path, base: Path, work: Path, layout: Layout = FOUR[0], **changes: Any) -> list[dict[str, Any]]:
    """Train from ``base``; the rows of metrics.jsonl."""
    folder = find_checkpoint(base)
    assert folder is not None
    spec = small.spec(tokens, work, layout, read_description(folder).model, **({"previous": base, "train": TRAIN} | changes))
    ranks.run(small.train_rank, layout.model_parallel, spec)
    return read_rows(work / METRICS)


@pytest.mark.parametrize("case", ["llama", "qwen2"])
def test_training_starts_where_the_hugging_face_model_stands(case: str, bases: dict[str, tuple[Path, Path]], tokens: Path, tmp_path: Path) -> None:
    model, base = bases[case]
    alone, four = (run(tokens, base, tmp_path / str(index), layout) for index, layout in enumerate(FOUR))
    expected = hugging_face_loss(model, first_batch(tokens))
    assert alone[0]["loss"] == pytest.approx(expected, rel=1e-5) and four[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert len(alone) == len(four) == TRAIN.phases["general"].steps and alone[-1]["loss"] < alone[0]["loss"]
    for one, other in zip(alone, four, strict=True):  # every later step too: gradients and updates, biases among them
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5) and other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-5)
    left, right = (dict(read_weights(step_folder(tmp_path / str(index), TRAIN.phases["general"].steps))) for index in range(2))
    before = dict(read_weights(step_folder(base, 0)))
    assert left.keys() == right.keys() == before.keys() and any(name.endswith("linear_qkv.bias") for name in left) == (case == "qwen2")
    for name, weight in left.items():
        assert (weight - right[name]).abs().max() < 1e-5 and not torch.equal(weight, before[name]), name


def test_added_rows_take_no_more_of_the_probability_than_their_number(bases: dict[str, tuple[Path, Path]], tokens: Path, tmp_path: Path) -> None:
    model, base = bases["qwen2, tied"]
    (first, *_) = run(tokens, base, tmp_path)
    expected = hugging_face_loss(model, first_batch(tokens))
    assert 0 < first["loss"] - expected < math.log(256 / 200)
    rows = [validation_samples(TRAIN, small.phase(), tokens, 7)["heldout"][index] for index in range(8)]
    start, end = read_rows(tmp_path / VALIDATION)
    assert (start["step"], start["tokens"], start["tier"]) == (0, 0, "heldout") and 0 < start["loss"] - hugging_face_loss(model, rows) < math.log(256 / 200)
    assert end["step"] == TRAIN.phases["general"].steps and end["loss"] < hugging_face_loss(model, rows)  # and the training helps


def test_bf16_training_from_an_fp32_model(bases: dict[str, tuple[Path, Path]], tokens: Path, tmp_path: Path) -> None:
    model, base = bases["llama"]
    (first, *_) = run(tokens, base, tmp_path, train=TRAIN.model_copy(update={"precision": "bf16"}))
    assert first["loss"] == pytest.approx(hugging_face_loss(model, first_batch(tokens)), rel=5e-3)  # bf16 has 8 bits


def test_a_phase_starts_from_any_step_of_another_training(bases: dict[str, tuple[Path, Path]], tokens: Path, tmp_path: Path) -> None:
    """A step-* folder with a later one beside it: as the training folder where it is the last one."""
    run(tokens, bases["llama"][1], tmp_path / "before")  # leaves the checkpoints of steps 2 and 3
    named = run(tokens, step_folder(tmp_path / "before", 2), tmp_path / "named")
    shutil.rmtree(step_folder(tmp_path / "before", 3))
    assert named == _without_times(run(tokens, tmp_path / "before", tmp_path / "last"), named)


def _without_times(rows: list[dict[str, Any]], like: list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = ("seconds", "tokens_per_second", "memory")
    return [row | {name: other[name] for name in times} for row, other in zip(rows, like, strict=True)]


def test_what_cannot_start_is_refused_before_any_process(bases: dict[str, tuple[Path, Path]], tokens: Path, tmp_path: Path) -> None:
    base = bases["qwen2"][1]
    model = read_description(step_folder(base, 0)).model
    spec = small.spec(tokens, tmp_path, model=model, previous=base)
    assert starting_checkpoint(spec) == step_folder(base, 0)
    assert starting_checkpoint(spec.model_copy(update={"previous": None})) is None
    with pytest.raises(SnowError, match=r"of another model \(.*model\.qkv_bias True -> False, .*\)"):
        starting_checkpoint(spec.model_copy(update={"model": small.MODEL}))
    with pytest.raises(SnowError, match="padded vocabulary 256 -> 384"):
        starting_checkpoint(spec.model_copy(update={"vocabulary": 300}))
    with pytest.raises(SnowError, match=r"train\.phases\.general\.hand_off all asks for the optimizer's moments.*start with hand_off: weights"):
        starting_checkpoint(spec.model_copy(update={"train": small.train(small.phase(hand_off="all"))}))
    with pytest.raises(SnowError, match="is not a whole checkpoint"):
        starting_checkpoint(spec.model_copy(update={"previous": tmp_path / "step-00000001"}))
