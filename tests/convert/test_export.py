"""Checkpoints of the training engine become models that transformers loads and that answer the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata
from megatron_snow.checkpoint.store import read_description
from megatron_snow.convert import to_hugging_face
from megatron_snow.tokens.settings import TokenizerSettings
from megatron_snow.tokens.tokenizer import train_tokenizer
from tests.convert import megatron_side
from tests.training import ranks


def make(folder: Path, world: int, *cases: str) -> Path:
    """Checkpoints of ``cases``, each in a training folder ``folder/case``, saved by ``world`` tensor-parallel processes."""
    folder.mkdir(exist_ok=True)
    ranks.run(megatron_side.run, world, folder, list(cases))
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("saved"), 1, *megatron_side.MODELS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), megatron_side.VOCABULARY)


def make_tokenizer(folder: Path, vocabulary: int) -> Path:
    text = Path(os.__file__).read_text()
    write_documents(folder / "corpus" / "standard", [Document(id="a", text=text, language="Python", repository="r", path="a", license="", source="s")])
    (folder / "own").mkdir()
    train_tokenizer(TokenizerSettings.model_validate({"train": {"vocabulary": vocabulary}}), folder / "corpus", folder / "own")
    return folder / "own"


@pytest.mark.parametrize("case", list(megatron_side.MODELS))
def test_logits_are_those_of_the_megatron_model(saved: Path, tokenizer: Path, tmp_path: Path, case: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counts = to_hugging_face(saved / case, tokenizer, tmp_path)
    assert counts["dtype"] == "fp32" and counts["padding_cut"] == 84 and counts["checkpoint"] == "step-00000007"
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(model).__name__ == ("Qwen2ForCausalLM" if case == "biases" else "LlamaForCausalLM") and model.dtype == torch.float32
    assert model.num_parameters() == sum(tensor.numel() for tensor in load_file(tmp_path / "model.safetensors").values())
    expected = load_file(saved / f"{case}.safetensors")
    with torch.no_grad():
        logits = model.eval()(input_ids=expected["tokens"]).logits
    assert logits.shape == (3, megatron_side.SEQUENCE, megatron_side.VOCABULARY)
    assert expected["logits"].std() > 0.3, "answers this flat would agree whatever the weights"
    assert (logits - expected["logits"][..., : megatron_side.VOCABULARY]).abs().max() <= 1e-4  # the gate
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == model.config.vocab_size and loaded.decode(loaded("def f(x):")["input_ids"]) == "def f(x):"
    assert model.generation_config.eos_token_id == loaded.eos_token_id == 0
    assert model.config.max_position_embeddings == megatron_side.SEQUENCE


def test_the_layout_leaves_no_trace(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    split = make(tmp_path / "split", 2, "grouped", "biases")
    for case in ("grouped", "biases"):
        for training, target in ((split, f"two {case}"), (saved, f"one {case}")):
            (tmp_path / target).mkdir()
            to_hugging_face(training / case, tokenizer, tmp_path / target)
        for name in ("model.safetensors", "config.json", "README.md"):
            assert (tmp_path / f"one {case}" / name).read_bytes() == (tmp_path / f"two {case}" / name).read_bytes()


def test_optimizer_state_is_never_read(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    shutil.copytree(saved / "grouped", blank)
    folder = blank / "checkpoints" / "step-00000007"
    blanked = 0
    for place in [place for index, place in read_metadata(folder).storage_data.items() if index.fqn.startswith("optimizer.")]:
        with (folder / place.relative_path).open("r+b") as file:
            file.seek(place.offset)
            file.write(bytes(place.length))
        blanked += 1
    assert blanked >= 3 * 15  # fp32 weights and two moments of each of the model's tensors
    for training, target in ((blank, "blank model"), (saved / "grouped", "model")):
        (tmp_path / target).mkdir()
        to_hugging_face(training, tokenizer, tmp_path / target)
    assert (tmp_path / "blank model" / "model.safetensors").read_bytes() == (tmp_path / "model" / "model.safetensors").read_bytes()


def test_the_model_card_has_the_fields_a_hub_reads(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    to_hugging_face(saved / "biases", tokenizer, tmp_path, "bf16")
    _, front, text = (tmp_path / "README.md").read_text().split("---\n")
    assert yaml.safe_load(front) == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["code", "qwen2"]}
    assert "| weights | bfloat16 |" in text and "phase general, step 7, 224 tokens" in text and "2 layers, 64 wide, 4 heads of 24, 2 key/value heads" in text


def test_bf16_rounds_each_weight(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    for dtype in ("fp32", "bf16"):
        (tmp_path / dtype).mkdir()
        to_hugging_face(saved / "tied", tokenizer, tmp_path / dtype, dtype)
    full, rounded = (load_file(tmp_path / dtype / "model.safetensors") for dtype in ("fp32", "bf16"))
    assert full.keys() == rounded.keys() and all(torch.equal(full[name].bfloat16(), rounded[name]) for name in full)
    assert json.loads((tmp_path / "bf16" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_killed_conversion_leaves_nothing_behind(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"half")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    to_hugging_face(saved / "tied", tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_missing_and_foreign_inputs(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="holds no whole checkpoint"):
        to_hugging_face(tmp_path, tokenizer, tmp_path)
    with pytest.raises(SnowError, match="not a whole checkpoint"):
        to_hugging_face(tmp_path / "step-00000001", tokenizer, tmp_path)
    with pytest.raises(SnowError, match="no tokenizer in"):
        to_hugging_face(saved / "tied", tmp_path, tmp_path)
    with pytest.raises(SnowError, match=r"has 384 rows, a model trained with the tokenizer in .* \(400 tokens\) has 512"):
        to_hugging_face(saved / "tied", make_tokenizer(tmp_path, 400), tmp_path)


def test_a_checkpoint_without_a_layer_is_refused(saved: Path, tokenizer: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(saved / "tied", damaged)
    folder = damaged / "checkpoints" / "step-00000007"
    description = folder / "checkpoint.json"
    changed = read_description(folder)
    changed = changed.model_copy(update={"model": changed.model.model_copy(update={"layers": 3})})
    description.write_text(changed.model_copy(update={"sha256": changed.checksum()}).model_dump_json())
    with pytest.raises(SnowError, match=r"lacks 9 of the model's tensors \(model.layers.2.self_attn.q_proj.weight among them\)"):
        to_hugging_face(damaged, tokenizer, tmp_path)
