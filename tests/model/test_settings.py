from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from megatron_snow.model.settings import ModelSettings, flops_per_token, padded_vocabulary, parameters

VOCABULARY = 256


def llama(model: ModelSettings) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=model.hidden, intermediate_size=model.ffn, num_hidden_layers=model.layers, num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads, tie_word_embeddings=model.tied, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_the_papers_model_has_the_papers_parameters() -> None:
    assert parameters(ModelSettings(), 64_000) == 1_364_297_728


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_parameters_are_those_of_a_llama(tied: bool, kv_heads: int) -> None:
    model = ModelSettings(hidden=64, ffn=96, layers=3, heads=4, kv_heads=kv_heads, tied=tied)
    assert parameters(model, VOCABULARY) == sum(weight.numel() for weight in llama(model).parameters())


def test_flops_are_those_torch_counts_without_the_masked_half() -> None:
    model = ModelSettings(hidden=64, ffn=96, layers=3, heads=4, kv_heads=2)
    sequence = 32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        llama(model)(torch.zeros(1, sequence, dtype=torch.int64))
    masked = sequence * model.layers * 2 * 2 * model.hidden * sequence / 2  # eager attention computes what the mask then hides
    assert 3 * (counter.get_total_flops() - masked) / sequence == flops_per_token(model, VOCABULARY, sequence)


def test_vocabulary_is_padded_to_the_multiple() -> None:
    assert padded_vocabulary(ModelSettings(), 64_000) == 64_000
    assert padded_vocabulary(ModelSettings(), 64_001) == 64_128
    assert padded_vocabulary(ModelSettings(vocabulary_multiple=1), 49_153) == 49_153


@pytest.mark.parametrize("values", [{"hidden": 100, "heads": 16}, {"heads": 16, "kv_heads": 3}])
def test_heads_that_do_not_divide_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="is not a multiple of"):
        ModelSettings(**values)  # type: ignore[arg-type]
