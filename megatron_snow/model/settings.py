"""The model's shape, and what follows from it in closed form. Defaults: table 1 of the paper (arXiv 2409.02326)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from megatron_snow.artifacts.settings import Settings

Count = Annotated[int, Field(ge=1)]
Recompute = Literal["none", "selective", "full"]
"""Which activations the backward pass computes again instead of keeping: none, the attention's, or whole layers."""
Loss = Literal["fused", "megatron"]
"""Whose loss head: ours, which never holds the logits, or megatron-core's own."""


class ModelSettings(Settings):
    """A Llama-2-style decoder: RMSNorm before attention and SwiGLU, rotary positions, no dropout, biases on query, key and value or none."""

    hidden: Count = 2048  # paper, table 1
    """Width of the residual stream."""
    ffn: Count = 5632  # paper, table 1
    """Width between the SwiGLU matrices."""
    layers: Count = 24  # paper, table 1
    heads: Count = 16  # paper, table 1
    kv_heads: Count = 16  # paper, table 1: no grouping
    """Key/value heads; fewer than ``heads`` is grouped-query attention."""
    head_dim: Count | None = None
    """Width of one attention head; left out: hidden / heads. Some Hugging Face models say another."""
    qkv_bias: bool = False  # Llama-2 has none; Qwen2 and 2.5 (arXiv 2407.10671, section 2.2.1) do
    """Whether the query, key and value projections add a bias."""
    tied: bool = True  # paper, table 1
    """One matrix for input embedding and output logits."""
    rope_theta: Count = 10_000  # Llama-2; not stated in the paper
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5  # Llama-2; not stated in the paper
    init_std: Annotated[float, Field(gt=0)] = 0.02  # Llama-2 / Megatron-LM's --init-method-std; not stated in the paper
    """Standard deviation of fresh weights; projections into the residual stream get it divided by sqrt(2 x layers)."""
    vocabulary_multiple: Count = 128  # Megatron-LM's --make-vocab-size-divisible-by
    """The tokenizer's vocabulary is padded up to a multiple of this (the same under every layout)."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.head_dim is None and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}; change one of them, or give head_dim")
        if self.head_size % 2:
            raise ValueError(f"attention heads are {self.head_size} wide; rotary positions turn pairs, so make that even")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}; change one of them")
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden // self.heads


def shape(model: ModelSettings) -> dict[str, Any]:
    """What decides which weights a model has and what they compute: equal for two models whose weights can be exchanged, but for padding."""
    return model.model_dump(exclude={"init_std", "vocabulary_multiple"}) | {"head_dim": model.head_size}


def padded_vocabulary(model: ModelSettings, vocabulary: int) -> int:
    """Rows of the embedding for a tokenizer of ``vocabulary`` tokens."""
    return -(-vocabulary // model.vocabulary_multiple) * model.vocabulary_multiple


def matrix_parameters(model: ModelSettings) -> int:
    """Weights of one layer's matrices."""
    query, key_value = model.heads * model.head_size, model.kv_heads * model.head_size
    return 2 * model.hidden * query + 2 * model.hidden * key_value + 3 * model.hidden * model.ffn


def parameters(model: ModelSettings, vocabulary: int) -> int:
    """Trained parameters with an embedding of ``vocabulary`` rows (pass the padded count to get what is stored)."""
    embedding = vocabulary * model.hidden * (1 if model.tied else 2)
    biases = (model.heads + 2 * model.kv_heads) * model.head_size if model.qkv_bias else 0
    return embedding + model.layers * (matrix_parameters(model) + biases + 2 * model.hidden) + model.hidden


def flops_per_token(model: ModelSettings, vocabulary: int, sequence: int) -> float:
    """Floating-point operations of one trained token, forward and backward (backward counted as twice forward).

    Two per weight of every matrix, the logits included, plus the two attention products over the half of the
    sequence that the causal mask leaves on average. Recomputation is not counted, so a model FLOPs utilisation from
    this number does not reward it; nor are biases, one addition each. (The usual 6 N leaves attention out and counts the embedding look-up.)
    """
    matrices = model.layers * matrix_parameters(model) + vocabulary * model.hidden
    attention = model.layers * 2 * model.heads * model.head_size * (sequence / 2)
    return 3 * 2 * (matrices + attention)
