"""A recipe that starts from a model that is there already."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert import to_checkpoint
from megatron_snow.model.settings import shape
from megatron_snow.recipe.base import refuse_other_tokenizer
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.settings import Recipe
from megatron_snow.tokens.settings import TokenizerSettings
from megatron_snow.tokens.tokenizer import train_tokenizer
from tests.convert import hub

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub.tokenizer(hub.make(tmp_path_factory.mktemp("hub") / "model", "qwen2, tied"))


def recipe(*overrides: str) -> Recipe:
    return load_recipe(TINY, overrides)


def test_without_a_base_the_road_is_what_it_was() -> None:
    road = build_road(recipe(), Path("out"))
    assert "base" not in road.stages and road.stages["train general"].inputs == ("tokenizer", "tokenize")


def test_a_hugging_face_model_gives_shape_tokenizer_and_start(model: Path) -> None:
    given = recipe(f"train.base.hugging_face={model}", "model=base", "tokenizer=base")
    assert given.model.qkv_bias and given.model.tied and (given.model.hidden, given.model.layers, given.model.kv_heads) == (64, 4, 2)
    assert given.tokenizer.path == str(model) and given.tokenizer.train is None
    road = build_road(given, Path("out"))
    assert list(road.stages).index("base") < list(road.stages).index("train general")
    assert road.stages["train general"].inputs == ("tokenizer", "tokenize", "base")
    assert road.stages["train continued"].inputs == ("tokenizer", "tokenize", "train general")


def test_the_stage_makes_a_checkpoint_for_the_roads_tokenizer(model: Path, tmp_path: Path) -> None:
    """The tokenizer arrow adds the special tokens that the model's tokenizer lacks; the checkpoint has rows for them."""
    road = build_road(recipe(f"train.base.hugging_face={model}", "model=base", "tokenizer=base"), tmp_path)
    (tmp_path / "2-tokenizer").mkdir()
    train_tokenizer(TokenizerSettings(path=str(model)), tmp_path / "no corpus", tmp_path / "2-tokenizer")
    (tmp_path / "work").mkdir()
    counts = road.stages["base"].run({"tokenizer": tmp_path / "2-tokenizer"}, tmp_path / "work")
    assert (counts["vocabulary"], counts["rows_kept"], counts["rows_added"]) == (384, 300, 84)
    assert (tmp_path / "work" / "checkpoints" / "step-00000000" / "checkpoint.json").is_file()


def test_the_fingerprint_follows_the_model(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)  # keeps the times

    def fingerprint() -> dict[str, str]:
        return build_road(recipe(f"train.base.hugging_face={copy}", "model=base"), Path("out")).stages["base"].external()

    before = fingerprint()
    assert before == fingerprint() == build_road(recipe(f"train.base.hugging_face={model}", "model=base"), Path("out")).stages["base"].external()
    os.utime(copy / "model.safetensors", (1, 1))
    assert fingerprint() != before


def test_a_recipe_begins_with_phase_two_from_a_checkpoint(model: Path, tmp_path: Path) -> None:
    to_checkpoint(model, tmp_path / "trained")
    given = recipe(f"train.base.checkpoint={tmp_path / 'trained'}", "model=base")
    road = build_road(given, Path("out"))
    assert "base" not in road.stages and shape(given.model) == shape(recipe(f"train.base.hugging_face={model}", "model=base").model)
    before = road.stages["train general"].external()
    assert before.keys() == {"base checkpoint"} and road.stages["train continued"].external() == {}
    step = tmp_path / "trained" / "checkpoints" / "step-00000000"
    one = build_road(recipe(f"train.base.checkpoint={step}", "model=base"), Path("out")).stages["train general"]
    assert one.external() == before and one.settings == road.stages["train general"].settings  # where it lies changes nothing
    description = json.loads((step / "checkpoint.json").read_text())
    (step / "checkpoint.json").write_text(json.dumps(description | {"step": 1}))
    assert build_road(given, Path("out")).stages["train general"].external() != before


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=base"], "model: base stands for the model of train.base, which the recipe does not give"),
        (["tokenizer=base"], "tokenizer: base stands for the model of train.base"),
        (["train.base={}", "model=base"], "train.base: give hugging_face .* or checkpoint"),
        (["train.base={hugging_face: a, checkpoint: b}"], "train.base: give hugging_face .* or checkpoint"),
        (["train.base={folder: a}"], "give hugging_face"),
        (["train.base.checkpoint=/nowhere", "model=base"], "train.base.checkpoint /nowhere: there is no whole checkpoint"),
        (["train.base.checkpoint=/nowhere", "tokenizer=base"], "a checkpoint holds none: give tokenizer.path"),
        (["train.base.hugging_face=/nowhere", "model=base"], "train.base.hugging_face /nowhere: there is no such folder"),
    ],
)
def test_what_is_no_base_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(SnowError, match=says):
        recipe(*overrides)


def test_a_hub_name_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as its environment variable, read once at import
    with pytest.raises(SnowError, match=r"train\.base\.hugging_face some/model: neither a local folder nor a hub model that can be fetched"):
        recipe("train.base.hugging_face=some/model", "model=base")


def test_another_shape_than_the_recipes_is_refused(model: Path, tmp_path: Path) -> None:
    road = build_road(recipe(f"train.base.hugging_face={model}"), tmp_path)
    with pytest.raises(SnowError, match=r"has another shape than the recipe: .*model\.qkv_bias False, there True.*or write 'model: base'"):
        road.stages["base"].run({"tokenizer": model}, tmp_path)


def test_another_tokenizer_than_the_models_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other: Any = json.loads((model / "tokenizer.json").read_text())
    vocabulary = other["model"]["vocab"]
    first, second = [token for token, number in vocabulary.items() if number in (5, 6)]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(SnowError, match=r"2 of the 300 tokens of the base model .* write 'tokenizer: base'"):
        refuse_other_tokenizer(model, tmp_path)
    refuse_other_tokenizer(model, model)
    refuse_other_tokenizer(tmp_path / "none", model)
    assert "cannot be checked" in capsys.readouterr().err
