from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert.llama import from_hugging_face, hugging_face_shapes, hugging_face_to_megatron, megatron_names, megatron_to_hugging_face
from megatron_snow.model.settings import ModelSettings

VOCABULARY = 50
SHAPES = [(4, 4, True), (4, 2, False), (6, 1, True), (6, 3, False)]


def settings(heads: int, kv_heads: int, tied: bool) -> ModelSettings:
    return ModelSettings(hidden=heads * 8, ffn=40, layers=2, heads=heads, kv_heads=kv_heads, tied=tied)


def random_weights(model: ModelSettings) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in hugging_face_shapes(model, VOCABULARY).items()}


@pytest.mark.parametrize(("heads", "kv_heads", "tied"), SHAPES)
def test_shapes_are_those_of_transformers(heads: int, kv_heads: int, tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=heads * 8, intermediate_size=40, num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
    )  # fmt: skip
    expected = {name: tuple(weight.shape) for name, weight in LlamaForCausalLM(config).state_dict().items()}
    if tied:
        del expected["lm_head.weight"]
    assert hugging_face_shapes(settings(heads, kv_heads, tied), VOCABULARY) == expected


@pytest.mark.parametrize("aliases", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "tied"), SHAPES)
def test_round_trip_from_hugging_face_is_bitwise(heads: int, kv_heads: int, tied: bool, aliases: bool) -> None:
    model = settings(heads, kv_heads, tied)
    weights = random_weights(model)
    there = from_hugging_face(weights, model, VOCABULARY, padded_vocabulary=64, aliases=aliases)
    back: dict[str, torch.Tensor] = {}
    for name, tensor in there.items():
        back |= megatron_to_hugging_face(name, tensor, model, VOCABULARY)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("heads", "kv_heads", "tied"), SHAPES)
def test_round_trip_from_megatron_is_bitwise(heads: int, kv_heads: int, tied: bool) -> None:
    model = settings(heads, kv_heads, tied)
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


def test_vocabulary_is_cut_and_padded_with_zeros() -> None:
    model = settings(4, 4, False)
    weights = random_weights(model)
    for name in ("embedding.word_embeddings.weight", "output_layer.weight"):
        padded = hugging_face_to_megatron(name, weights.__getitem__, model, VOCABULARY, 64)
        assert padded.shape == (64, 32) and not padded[VOCABULARY:].any() and padded[:VOCABULARY].all(dim=1).any()
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
        ("decoder.layers.0.self_attention.linear_qkv.bias", (96,), "no Hugging Face Llama tensor corresponds"),
        ("decoder.layers.2.mlp.linear_fc2.weight", (32, 40), "not part of a model of 2 layers"),
        ("decoder.layers.0.self_attention.linear_qkv.weight", (64, 32), r"has shape \(64, 32\) where the model's settings say \(96, 32\)"),
        ("decoder.layers.0.mlp.linear_fc2.weight", (32, 41), "belongs to another model"),
        ("embedding.word_embeddings.weight", (49, 32), r"say \(50, 32\)"),
    ],
)
def test_foreign_tensors_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SnowError, match=message):
        megatron_to_hugging_face(name, torch.zeros(shape), settings(4, 4, True), VOCABULARY)
