from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from megatron_snow.model.settings import ModelSettings, flops_per_token, padded_vocabulary, parameters, shape

VOCABULARY = 256


def llama(model: ModelSettings) -> LlamaForCausalLM | Qwen2ForCausalLM:
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": model.hidden, "intermediate_size": model.ffn, "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads, "num_key_value_heads": model.kv_heads, "tie_word_embeddings": model.tied, "attn_implementation": "eager",
        "head_dim": model.head_size,
    }  # fmt: skip
    return Qwen2ForCausalLM(Qwen2Config(**fields)) if model.qkv_bias else LlamaForCausalLM(LlamaConfig(**fields))


def test_the_papers_model_has_the_papers_parameters() -> None:
    assert parameters(ModelSettings(), 64_000) == 1_364_297_728


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("kv_heads", "head_dim", "qkv_bias"), [(1, None, False), (4, None, False), (2, 24, False), (2, None, True), (4, 24, True)])
def test_parameters_are_those_of_a_llama_or_qwen2(tied: bool, kv_heads: int, head_dim: int | None, qkv_bias: bool) -> None:
    model = ModelSettings(hidden=64, ffn=96, layers=3, heads=4, kv_heads=kv_heads, tied=tied, head_dim=head_dim, qkv_bias=qkv_bias)
    assert parameters(model, VOCABULARY) == sum(weight.numel() for weight in llama(model).parameters())


@pytest.mark.parametrize("special", [{}, {"head_dim": 24}, {"qkv_bias": True}])
def test_flops_are_those_torch_counts_without_the_masked_half(special: dict[str, Any]) -> None:
    model = ModelSettings(hidden=64, ffn=96, layers=3, heads=4, kv_heads=2, **special)
    sequence = 32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        llama(model)(torch.zeros(1, sequence, dtype=torch.int64))
    masked = sequence * model.layers * 2 * 2 * model.heads * model.head_size * sequence / 2  # eager attention computes what the mask then hides
    assert 3 * (counter.get_total_flops() - masked) / sequence == flops_per_token(model, VOCABULARY, sequence)


def test_vocabulary_is_padded_to_the_multiple() -> None:
    assert padded_vocabulary(ModelSettings(), 64_000) == 64_000
    assert padded_vocabulary(ModelSettings(), 64_001) == 64_128
    assert padded_vocabulary(ModelSettings(vocabulary_multiple=1), 49_153) == 49_153


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(ValidationError, match="attention heads are 5 wide"):
        ModelSettings(hidden=20, heads=4, kv_heads=4)
    with pytest.raises(ValidationError, match="attention heads are 7 wide"):
        ModelSettings(head_dim=7)


def test_shapes_are_compared_as_what_they_mean() -> None:
    plain = ModelSettings(hidden=64, heads=4, kv_heads=4)
    assert shape(plain) == shape(plain.model_copy(update={"head_dim": 16, "init_std": 0.5, "vocabulary_multiple": 1}))
    assert shape(plain) != shape(plain.model_copy(update={"head_dim": 24})) and shape(plain) != shape(plain.model_copy(update={"qkv_bias": True}))


@pytest.mark.parametrize("values", [{"hidden": 100, "heads": 16}, {"heads": 16, "kv_heads": 3}])
def test_heads_that_do_not_divide_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="is not a multiple of"):
        ModelSettings(**values)  # type: ignore[arg-type]
