from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert.llama import from_hugging_face, hugging_face_shapes, hugging_face_to_megatron, megatron_names, megatron_to_hugging_face
from megatron_snow.model.settings import ModelSettings

VOCABULARY = 50
MODELS = {
    "plain": ModelSettings(hidden=32, ffn=40, layers=2, heads=4, kv_heads=4, tied=True),
    "grouped": ModelSettings(hidden=32, ffn=40, layers=2, heads=4, kv_heads=2, tied=False),
    "one group": ModelSettings(hidden=48, ffn=40, layers=2, heads=6, kv_heads=1, tied=True),
    "wide heads": ModelSettings(hidden=48, ffn=40, layers=2, heads=6, kv_heads=3, tied=False, head_dim=10),
    "biases": ModelSettings(hidden=48, ffn=40, layers=2, heads=6, kv_heads=2, tied=True, qkv_bias=True),
    "biases, wide heads": ModelSettings(hidden=50, ffn=40, layers=2, heads=4, kv_heads=4, tied=False, qkv_bias=True, head_dim=16),
}


def settings(heads: int, kv_heads: int, tied: bool) -> ModelSettings:
    return ModelSettings(hidden=heads * 8, ffn=40, layers=2, heads=heads, kv_heads=kv_heads, tied=tied)


def random_weights(model: ModelSettings) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in hugging_face_shapes(model, VOCABULARY).items()}


@pytest.mark.parametrize("case", list(MODELS))
def test_shapes_are_those_of_transformers(case: str) -> None:
    model = MODELS[case]
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": model.hidden, "intermediate_size": model.ffn, "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads, "num_key_value_heads": model.kv_heads, "tie_word_embeddings": model.tied, "head_dim": model.head_size,
    }  # fmt: skip
    built: Any = Qwen2ForCausalLM(Qwen2Config(**fields)) if model.qkv_bias else LlamaForCausalLM(LlamaConfig(**fields))
    expected = {name: tuple(weight.shape) for name, weight in built.state_dict().items()}
    if model.tied:
        del expected["lm_head.weight"]
    assert hugging_face_shapes(model, VOCABULARY) == expected


@pytest.mark.parametrize("aliases", [False, True])
@pytest.mark.parametrize("case", list(MODELS))
def test_round_trip_from_hugging_face_is_bitwise(case: str, aliases: bool) -> None:
    model = MODELS[case]
    weights = random_weights(model)
    there = from_hugging_face(weights, model, VOCABULARY, padded_vocabulary=64, aliases=aliases)
    back: dict[str, torch.Tensor] = {}
    for name, tensor in there.items():
        back |= megatron_to_hugging_face(name, tensor, model, VOCABULARY)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize("case", list(MODELS))
def test_round_trip_from_megatron_is_bitwise(case: str) -> None:
    model = MODELS[case]
    there = {name: torch.randn_like(tensor) for name, tensor in from_hugging_face(random_weights(model), model, VOCABULARY).items()}
    back: dict[str, torch.Tensor] = {}
    for name, tensor in there.items():
        back |= megatron_to_hugging_face(name, tensor, model, VOCABULARY)
    again = from_hugging_face(back, model, VOCABULARY)
    assert again.keys() == there.keys()
    assert all(torch.equal(again[name], there[name]) for name in there)


def test_query_key_value_rows_lie_by_group() -> None:
    model = settings(6, 3, True)
    rows = torch.arange(6 * 8 + 2 * 3 * 8)[:, None].expand(-1, 48)  # every row holds its number
    parts = megatron_to_hugging_face("decoder.layers.1.self_attention.linear_qkv.weight", rows, model, VOCABULARY)
    found = {name.split(".")[-2]: part[:, 0].tolist() for name, part in parts.items()}
    expected: dict[str, list[int]] = {"q_proj": [], "k_proj": [], "v_proj": []}
    row = 0
    for _ in range(3):
        for what in ("q_proj", "q_proj", "k_proj", "v_proj"):
            expected[what] += range(row, row + 8)
            row += 8
    assert found == expected and all(name.startswith("model.layers.1.self_attn.") for name in parts)


def test_vocabulary_is_cut_and_padded_with_the_mean() -> None:
    model = settings(4, 4, False)
    weights = random_weights(model)
    for name, hugging_face_name in (("embedding.word_embeddings.weight", "model.embed_tokens.weight"), ("output_layer.weight", "lm_head.weight")):
        padded = hugging_face_to_megatron(name, weights.__getitem__, model, VOCABULARY, 64)
        source = weights[hugging_face_name]
        assert padded.shape == (64, 32) and torch.equal(padded[:VOCABULARY], source)
        assert (padded[VOCABULARY:] - source.mean(0)).abs().max() < 1e-6
        (cut,) = megatron_to_hugging_face(name, padded, model, VOCABULARY).values()
        assert cut.shape == (VOCABULARY, 32)


def test_a_tied_models_copy_of_the_embedding() -> None:
    model = settings(4, 4, True)
    weights = random_weights(model)
    assert torch.equal(hugging_face_to_megatron("output_layer.weight", weights.__getitem__, model, VOCABULARY), weights["model.embed_tokens.weight"])
    assert megatron_to_hugging_face("output_layer.weight", weights["model.embed_tokens.weight"], model, VOCABULARY) == {}
    assert "output_layer.weight" not in megatron_names(model)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("decoder.layers.0.self_attention.linear_proj.bias", (32,), "no Hugging Face Llama or Qwen2 tensor corresponds"),
        ("decoder.layers.0.self_attention.linear_qkv.bias", (96,), "the checkpoint belongs to another model"),
        ("decoder.layers.2.mlp.linear_fc2.weight", (32, 40), "not part of a model of 2 layers"),
        ("decoder.layers.0.self_attention.linear_qkv.weight", (64, 32), r"has shape \(64, 32\) where the model's settings say \(96, 32\)"),
        ("decoder.layers.0.mlp.linear_fc2.weight", (32, 41), "belongs to another model"),
        ("embedding.word_embeddings.weight", (49, 32), r"say \(50, 32\)"),
    ],
)
def test_foreign_tensors_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SnowError, match=message):
        megatron_to_hugging_face(name, torch.zeros(shape), settings(4, 4, True), VOCABULARY)
