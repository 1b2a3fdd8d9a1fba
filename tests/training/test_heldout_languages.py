"""Validation by language: which languages, on what, and what training writes of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import Duration
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.documents import rows_path
from megatron_snow.blend.settings import MixtureSettings
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import checkpoints, find_checkpoint, read_description
from megatron_snow.convert import to_checkpoint
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.phase import _summarise
from megatron_snow.training.records import VALIDATION, read_rows
from megatron_snow.training.samples import heldout_languages
from megatron_snow.training.settings import OptimizerSettings, TrainSettings, ValidationSettings
from tests.convert import hub
from tests.training import ranks, small
from tests.training.test_start import hugging_face_loss

SIZES = {"Shell": 150, "Python": 2000, "C++": 1000, "SQL": 125}  # 4 samples of 32 tokens take 128
PHASE = small.phase(4)


@pytest.fixture(scope="module")
def by_language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.write_tokens(tmp_path_factory.mktemp("languages"))
    shutil.rmtree(folder / "heldout")
    return small.write_languages(folder, SIZES)


def validated(**changes: Any) -> TrainSettings:
    settings: dict[str, Any] = {"every": Duration(amount=2, unit="steps"), "samples": 8, "language_samples": 4, "tiers": ("heldout",)}
    return small.train(
        PHASE, validation=ValidationSettings(**(settings | changes)), checkpoint=CheckpointSettings(every=Duration(amount=1, unit="steps"), keep=9),
        optimizer=OptimizerSettings(epsilon=1e-4),  # 1e-6 would make visible steps of rounding noise
    )  # fmt: skip


def test_each_language_is_validated_on_its_own_documents_and_one_with_too_few_is_left_out(by_language: Path) -> None:
    found, said = heldout_languages(validated(), PHASE, by_language, 7)
    assert list(found) == ["Python", "C++", "Shell"]  # most tokens first
    assert said == "languages of heldout not validated apart, with fewer tokens than the 128 that train.validation takes of each: SQL 125"
    for language, samples in found.items():
        rows = np.stack([samples.sample(index).tokens for index in range(len(samples))])
        assert rows.shape == (4, 33) and set((rows // 20).ravel().tolist()) == {list(SIZES).index(language)}
        mixture = MixtureSettings(languages={"heldout": {language: 1}})
        data = PhaseDataset(by_language, {"heldout": 1}, 32, 4, 7, mixture=mixture)  # the language's share of a phase, were it trained on
        assert np.array_equal(rows, [data[index] for index in range(4)])


def test_as_many_languages_as_are_asked_for(by_language: Path, tokens: Path, tmp_path: Path) -> None:
    def names(**changes: Any) -> list[str]:
        return list(heldout_languages(validated(**changes), PHASE, by_language, 7)[0])

    assert names(languages=2) == ["Python", "C++"] and heldout_languages(validated(languages=3), PHASE, by_language, 7)[1] == ""
    assert names(languages=0) == [] and names(tiers=("standard",)) == []
    assert names(language_samples=None) == ["Python", "C++"]  # 8 samples, as of the tier, take 256 tokens
    missing, said = heldout_languages(validated(), PHASE, tokens, 7)
    assert missing == {} and "its tokens came without the rows that name languages" in said
    assert heldout_languages(validated(languages=0), PHASE, tokens, 7) == ({}, "")
    shutil.copytree(by_language, tmp_path / "damaged")
    rows_path(tmp_path / "damaged" / "heldout" / "00001").unlink()
    with pytest.raises(SnowError, match=r"no .*00001.documents.jsonl.zst"):
        heldout_languages(validated(), PHASE, tmp_path / "damaged", 7)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Hugging Face model, and the training folder that it is for a first phase."""
    folder = tmp_path_factory.mktemp("base")
    model = hub.make(folder / "model", "llama", vocab_size=256)
    to_checkpoint(model, folder / "brought", vocabulary=small.VOCABULARY)
    return model, folder / "brought"


def train(by_language: Path, base: tuple[Path, Path], work: Path, layout: Layout) -> list[dict[str, Any]]:
    found = find_checkpoint(base[1])
    assert found is not None
    ranks.run(small.train_rank, layout.processes(1), small.spec(by_language, work, layout, read_description(found).model, train=validated(), previous=base[1]))
    return read_rows(work / VALIDATION)


def check_start(rows: list[dict[str, Any]], by_language: Path, model: Path) -> None:
    """The rows of step 0 against the Hugging Face model on the same documents."""
    found, _ = heldout_languages(validated(), PHASE, by_language, 7)
    for row in rows[1:4]:
        own = [found[row["language"]].sample(index).tokens for index in range(4)]
        assert row["step"] == 0 and row["loss"] == pytest.approx(hugging_face_loss(model, own), rel=1e-5)


def test_losses_are_the_models_own_on_documents_of_the_language_under_every_layout(by_language: Path, base: tuple[Path, Path], tmp_path: Path) -> None:
    alone = train(by_language, base, tmp_path / "alone", Layout())
    assert [(row["step"], row["tier"], row.get("language")) for row in alone] == [
        (step, "heldout", language) for step in (0, 2, 4) for language in (None, "Python", "C++", "Shell")
    ]
    assert [row["tokens"] for row in alone] == [row["step"] * 256 for row in alone]
    check_start(alone, by_language, base[0])
    assert len({row["loss"] for row in alone}) == len(alone)
    for name, layout in {"split": Layout(tensor=2, pipeline=2, sequence_parallel=True), "parts": Layout(context=2)}.items():
        other = train(by_language, base, tmp_path / name, layout)
        assert [row | {"loss": None} for row in other] == [row | {"loss": None} for row in alone]
        assert [row["loss"] for row in other] == pytest.approx([row["loss"] for row in alone], rel=1e-5)
    summary = _summarise(small.spec(by_language, tmp_path / "alone", train=validated()), {})
    assert summary["validation"] == {"heldout": alone[-4]["loss"]}


def test_a_resumed_run_writes_the_same_rows(by_language: Path, base: tuple[Path, Path], tmp_path: Path) -> None:
    whole = train(by_language, base, tmp_path, Layout(data=2))
    check_start(whole, by_language, base[0])
    for folder in checkpoints(tmp_path)[1:]:
        shutil.rmtree(folder)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000001"]
    assert train(by_language, base, tmp_path, Layout(data=2)) == whole and [row["step"] for row in whole] == [0] * 4 + [2] * 4 + [4] * 4
