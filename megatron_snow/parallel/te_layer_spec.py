"""Transformer Engine's layers through megatron's public spec, adding each micro-batch's weight gradient in the product itself.

megatron-core has one switch for that (``gradient_accumulation_fusion``), which also asks NVIDIA's apex of the output layer.
Transformer Engine needs no apex: its linears get a configuration of their own with the switch on. Gradients then go
straight into DDP's fp32 buffer: no bf16 copy is held or rounded to. Importable only where Transformer Engine is.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from megatron.core.extensions.transformer_engine import TELayerNormColumnParallelLinear, TENorm, TERowParallelLinear
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig


def _accumulating(config: TransformerConfig) -> TransformerConfig:
    changed = copy.copy(config)
    changed.gradient_accumulation_fusion = True
    return changed


class AccumulatingColumnLinear(TELayerNormColumnParallelLinear):  # type: ignore[misc]
    """Norm and column-parallel product; the weight gradient is added to ``main_grad``."""

    def __init__(self, *arguments: Any, config: TransformerConfig, **named: Any) -> None:
        super().__init__(*arguments, config=_accumulating(config), **named)


class AccumulatingRowLinear(TERowParallelLinear):  # type: ignore[misc]
    """Row-parallel product; the weight gradient is added to ``main_grad``."""

    def __init__(self, *arguments: Any, config: TransformerConfig, **named: Any) -> None:
        super().__init__(*arguments, config=_accumulating(config), **named)


def te_layer_spec(config: TransformerConfig) -> ModuleSpec:
    """One layer: megatron's Transformer Engine spec with the linears above."""
    spec = get_gpt_layer_with_transformer_engine_spec(qk_layernorm=config.qk_layernorm)
    attention, mlp = spec.submodules.self_attention.submodules, spec.submodules.mlp
    mlp = mlp.keywords["submodules"] if isinstance(mlp, functools.partial) else mlp.submodules  # a partial since megatron-core 0.19
    attention.linear_qkv = mlp.linear_fc1 = AccumulatingColumnLinear
    attention.linear_proj = mlp.linear_fc2 = AccumulatingRowLinear
    return spec


def te_block_spec(config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
    """The layers of this rank's piece and the final norm."""
    count = get_num_layers_to_build(config, vp_stage=vp_stage)
    return TransformerBlockSubmodules(layer_specs=[te_layer_spec(config)] * count, layer_norm=TENorm)
