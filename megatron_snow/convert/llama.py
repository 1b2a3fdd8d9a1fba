"""Weights of a Megatron GPTModel <-> weights of a Hugging Face LlamaForCausalLM or Qwen2ForCausalLM, one tensor at a time.

A Qwen2 is a Llama whose query, key and value projections have biases. Two tensors (and the biases) differ by more than their name:

* Megatron fuses query, key and value into one matrix ordered by query group, so that a tensor-parallel rank's slice
  holds whole groups: rows ``[q_0 .. q_r-1, k, v]`` of group 0, then of group 1, ... with r = heads / key-value heads.
* Megatron stacks gate and up projection: rows ``[gate, up]``.

Rotary embeddings need no permutation: both rotate halves, not pairs.

The vocabulary is cut on the way out and padded on the way back: Megatron pads to a round number for its kernels and
slices. The rows that are added, of ids no text can hold or of special tokens the model has never seen, are each the mean of
all rows: such an id's logit is then the mean of the logits, so that (Jensen) n added rows take at most n of V + n parts of
the probability, whatever the model. Rows of zeros would have the logit 0, which is the largest one for models whose
logits are all negative. Logits of all other ids are unchanged.

But for those means every function is a permutation or a copy, so a round trip is bitwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.settings import ModelSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """One tensor of a Megatron layer (or of the model) and the Hugging Face tensors it holds."""

    megatron: str
    """Name in a checkpoint (norms carry the name of the layer Transformer Engine fuses them into)."""
    hugging_face: tuple[str, ...]
    layout: Literal["same", "query groups", "stacked", "vocabulary"] = "same"
    alias: str = ""
    """Name in a model whose layer spec keeps the norms as modules of their own."""


LAYER_RULES = (
    Rule("self_attention.linear_qkv.layer_norm_weight", ("input_layernorm.weight",), alias="input_layernorm.weight"),
    Rule("self_attention.linear_qkv.weight", ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"), "query groups"),
    Rule("self_attention.linear_qkv.bias", ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"), "query groups"),
    Rule("self_attention.linear_proj.weight", ("self_attn.o_proj.weight",)),
    Rule("mlp.linear_fc1.layer_norm_weight", ("post_attention_layernorm.weight",), alias="pre_mlp_layernorm.weight"),
    Rule("mlp.linear_fc1.weight", ("mlp.gate_proj.weight", "mlp.up_proj.weight"), "stacked"),
    Rule("mlp.linear_fc2.weight", ("mlp.down_proj.weight",)),
)
MODEL_RULES = (
    Rule("embedding.word_embeddings.weight", ("model.embed_tokens.weight",), "vocabulary"),
    Rule("decoder.final_layernorm.weight", ("model.norm.weight",)),
    Rule("output_layer.weight", ("lm_head.weight",), "vocabulary"),
)
_LAYER_NAME = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_FOREIGN = "the checkpoint belongs to another model: convert it with the settings it was trained with"


def hugging_face_shapes(model: ModelSettings, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the Hugging Face model, in the order of its modules."""
    wide, narrow, hidden = model.heads * model.head_size, model.kv_heads * model.head_size, model.hidden
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for index in range(model.layers):
        layer = f"model.layers.{index}."
        found |= {
            layer + "self_attn.q_proj.weight": (wide, hidden),
            layer + "self_attn.k_proj.weight": (narrow, hidden),
            layer + "self_attn.v_proj.weight": (narrow, hidden),
            **(_bias_shapes(layer, wide, narrow) if model.qkv_bias else {}),
            layer + "self_attn.o_proj.weight": (hidden, wide),
            layer + "mlp.gate_proj.weight": (model.ffn, hidden),
            layer + "mlp.up_proj.weight": (model.ffn, hidden),
            layer + "mlp.down_proj.weight": (hidden, model.ffn),
            layer + "input_layernorm.weight": (hidden,),
            layer + "post_attention_layernorm.weight": (hidden,),
        }
    found["model.norm.weight"] = (hidden,)
    if not model.tied:
        found["lm_head.weight"] = (vocabulary, hidden)
    return found


def _bias_shapes(layer: str, wide: int, narrow: int) -> dict[str, tuple[int, ...]]:
    return {f"{layer}self_attn.{part}_proj.bias": (size,) for part, size in (("q", wide), ("k", narrow), ("v", narrow))}


def megatron_to_hugging_face(name: str, tensor: Tensor, model: ModelSettings, vocabulary: int) -> dict[str, Tensor]:
    """The Hugging Face tensors a whole (unsharded) Megatron tensor holds; views where possible.

    Raises SnowError where the name belongs to no such model (a bias elsewhere, a mixture of experts, ...) or the size to another shape.
    """
    rule, prefix = _rule(name)
    if name == "output_layer.weight" and model.tied:
        return {}  # a pipeline's last stage keeps a copy of the tied embedding
    targets, shapes = [prefix + target for target in rule.hugging_face], hugging_face_shapes(model, vocabulary)
    if targets[0] not in shapes:
        raise SnowError(f"{name} is not part of a model of {model.layers} layers; {_FOREIGN}")
    rows, columns = sum(shapes[target][0] for target in targets), shapes[targets[0]][1:]
    enough = tensor.shape[0] >= rows if rule.layout == "vocabulary" else tensor.shape[0] == rows
    if not enough or tensor.shape[1:] != columns:
        raise SnowError(f"{name} has shape {tuple(tensor.shape)} where the model's settings say {(rows, *columns)}; {_FOREIGN}")
    return dict(zip(targets, _split(rule, tensor, model, vocabulary), strict=True))


def hugging_face_to_megatron(
    name: str, read: Callable[[str], Tensor], model: ModelSettings, vocabulary: int, padded_vocabulary: int | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """The whole Megatron tensor ``name``, its parts read from a Hugging Face model by name, each let go before the next.

    Args:
        vocabulary: rows to take of the embedding and the output matrix, from the front; what is read has as many or more.
        padded_vocabulary: rows they shall have, at least ``vocabulary``; those added are the mean of those taken.
        dtype: of the result; that of the first part where left out.
    """
    rule, prefix = _rule(name)
    sources = ("model.embed_tokens.weight",) if name == "output_layer.weight" and model.tied else rule.hugging_face
    if rule.layout == "vocabulary":
        return _padded(read(sources[0]), vocabulary, padded_vocabulary or vocabulary, dtype)
    if rule.layout == "same":
        tensor = read(prefix + sources[0])
        return tensor.to(dtype or tensor.dtype)
    return _fused(rule, [prefix + source for source in sources], read, model, dtype)


def megatron_names(model: ModelSettings, aliases: bool = False) -> list[str]:
    """Every tensor of the Megatron model, named as in a checkpoint, or (``aliases``) as in a model with separate norm modules."""
    first, last, output = MODEL_RULES
    names = [first.megatron]
    rules = [rule for rule in LAYER_RULES if model.qkv_bias or not rule.megatron.endswith(".bias")]
    names += [f"decoder.layers.{index}.{rule.alias if aliases and rule.alias else rule.megatron}" for index in range(model.layers) for rule in rules]
    return [*names, last.megatron] + ([] if model.tied else [output.megatron])


def from_hugging_face(
    weights: Mapping[str, Tensor], model: ModelSettings, vocabulary: int, padded_vocabulary: int | None = None, aliases: bool = False
) -> dict[str, Tensor]:
    """A whole Hugging Face state dict as a whole Megatron state dict (for models that fit in memory)."""
    return {name: hugging_face_to_megatron(name, weights.__getitem__, model, vocabulary, padded_vocabulary) for name in megatron_names(model, aliases)}


def _rule(name: str) -> tuple[Rule, str]:
    """The rule for a Megatron name, and the prefix of its Hugging Face names."""
    if match := _LAYER_NAME.fullmatch(name):
        for rule in LAYER_RULES:
            if match[2] in (rule.megatron, rule.alias):
                return rule, f"model.layers.{match[1]}."
    for rule in MODEL_RULES:
        if name == rule.megatron:
            return rule, ""
    raise SnowError(
        f"no Hugging Face Llama or Qwen2 tensor corresponds to {name!r}; only Llama-style models (RMSNorm, SwiGLU, rotary positions, biases on query, key "
        "and value or none) can be converted"
    )


def _split(rule: Rule, tensor: Tensor, model: ModelSettings, vocabulary: int) -> list[Tensor]:
    if rule.layout == "query groups":
        return [window.flatten(0, 2) for window in _windows(rule, tensor, model)]
    if rule.layout == "stacked":
        return _windows(rule, tensor, model)
    return [tensor[:vocabulary] if rule.layout == "vocabulary" else tensor]


def _windows(rule: Rule, fused: Tensor, model: ModelSettings) -> list[Tensor]:
    """Where each Hugging Face tensor lies in a fused one: views of it, for query groups [group, head, d, ...]."""
    import torch

    if rule.layout == "stacked":
        return list(fused.tensor_split(2))
    queries = model.heads // model.kv_heads
    groups = fused.view(model.kv_heads, queries + 2, model.head_size, *fused.shape[1:])
    return list(torch.split(groups, [queries, 1, 1], dim=1))


def _fused(rule: Rule, sources: list[str], read: Callable[[str], Tensor], model: ModelSettings, dtype: torch.dtype | None) -> Tensor:
    import torch

    rows = 2 * model.ffn if rule.layout == "stacked" else (model.heads + 2 * model.kv_heads) * model.head_size
    whole, windows = torch.empty(0), list[torch.Tensor]()
    for index, source in enumerate(sources):
        part = read(source)
        if not windows:
            whole = torch.empty((rows, *part.shape[1:]), dtype=dtype or part.dtype)
            windows = _windows(rule, whole, model)
        windows[index].copy_(part.view(windows[index].shape))
        del part  # before the next is read
    return whole


def _padded(rows: Tensor, taken: int, padded: int, dtype: torch.dtype | None) -> Tensor:
    if rows.shape[0] == taken == padded:
        return rows.to(dtype or rows.dtype)
    whole = rows.new_empty((padded, rows.shape[1]), dtype=dtype or rows.dtype)
    whole[:taken] = rows[:taken]
    whole[taken:] = _mean_row(rows[:taken])
    return whole


def _mean_row(rows: Tensor, block: int = 4096) -> Tensor:
    """The mean of [n, h] over n in double precision, a block of rows at a time (a cast of the whole would take its memory again)."""
    import torch

    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for start in range(0, rows.shape[0], block):
        total += rows[start : start + block].double().sum(0)
    return total / rows.shape[0]
