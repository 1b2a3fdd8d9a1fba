"""The transformer layer out of plain torch parts, through megatron's public spec mechanism (nothing is patched).

Two parts differ from megatron's local spec: a norm that allows sequence parallelism, and attention (``attention``).
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.parallel.attention import TorchAttention


class SequenceParallelNorm:
    """Builds torch's RMSNorm or LayerNorm with its weight marked for megatron's gradient sum over the tensor group."""

    def __new__(cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any) -> torch.nn.Module:  # type: ignore[misc]
        kind = torch.nn.RMSNorm if config.normalization == "RMSNorm" else torch.nn.LayerNorm
        device = torch.device("cpu") if config.use_cpu_initialization else torch.device("cuda", torch.cuda.current_device())
        norm = kind(hidden_size, eps=eps, dtype=config.params_dtype, device=device)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


def torch_layer_spec(config: TransformerConfig) -> ModuleSpec:
    """One layer: megatron's local spec with the norm and attention above. Checkpoint names are those of the TE spec."""
    spec = get_gpt_layer_local_spec(normalization=config.normalization, qk_layernorm=config.qk_layernorm)
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = SequenceParallelNorm
    spec.submodules.self_attention.submodules.core_attention = TorchAttention
    return spec


def torch_block_spec(config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
    """The layers of this rank's piece and the final norm (the block spec is the only public way to choose that one)."""
    count = get_num_layers_to_build(config, vp_stage=vp_stage)
    return TransformerBlockSubmodules(layer_specs=[torch_layer_spec(config)] * count, layer_norm=SequenceParallelNorm)
