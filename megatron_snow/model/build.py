"""From settings to megatron-core's GPTModel, this rank's pieces of it."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.model.loss_head import FusedLossModel
from megatron_snow.model.settings import Loss, ModelSettings, Recompute
from megatron_snow.parallel.backend import Backend, assert_sound
from megatron_snow.parallel.groups import ends
from megatron_snow.parallel.settings import Fp8Settings, Layout, Precision

_RECOMPUTE: dict[Recompute, dict[str, Any]] = {
    "none": {},
    "selective": {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]},
    "full": {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1},
}


def _left_for_initialise(weight: torch.Tensor) -> torch.Tensor:
    """Megatron wants to initialise (and marks the parameter while at it); ``initialise`` fills it afterwards."""
    return weight


def transformer_config(
    model: ModelSettings,
    layout: Layout,
    backend: Backend,
    precision: Precision,
    recompute: Recompute,
    fp8: Fp8Settings = Fp8Settings(),  # noqa: B008 - frozen
) -> TransformerConfig:
    """Megatron's configuration of the model under a layout on a device; ``fp8`` counts where ``precision`` is fp8."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    config = TransformerConfig(
        num_layers=model.layers, hidden_size=model.hidden, ffn_hidden_size=model.ffn, num_attention_heads=model.heads, num_query_groups=model.kv_heads,
        normalization="RMSNorm", layernorm_epsilon=model.norm_epsilon, gated_linear_unit=True, activation_func=torch.nn.functional.silu,
        kv_channels=model.head_size, add_bias_linear=False, add_qkv_bias=model.qkv_bias, attention_dropout=0.0, hidden_dropout=0.0,
        init_method=_left_for_initialise, output_layer_init_method=_left_for_initialise, embedding_init_method=_left_for_initialise,
        tensor_model_parallel_size=layout.tensor, pipeline_model_parallel_size=layout.pipeline, virtual_pipeline_model_parallel_size=layout.virtual_pipeline,
        context_parallel_size=layout.context, sequence_parallel=layout.sequence_parallel,
        params_dtype=dtype, pipeline_dtype=dtype, bf16=dtype == torch.bfloat16,
        **_RECOMPUTE[recompute], **backend.overrides(precision, fp8),
    )  # fmt: skip
    assert_sound(config)
    return config


def build_chunks(
    config: TransformerConfig, model: ModelSettings, vocabulary: int, sequence: int, layout: Layout, backend: Backend, loss: Loss = "fused"
) -> list[GPTModel]:
    """This rank's pieces of the model (several under interleaving), uninitialised, on the backend's device.

    ``vocabulary`` is the padded one, ``sequence`` the longest sequence in tokens.
    """
    chunks = []
    for piece in range(layout.virtual_pipeline or 1):
        vp_stage = piece if layout.virtual_pipeline else None
        first, last = ends(layout, vp_stage)
        chunk = (FusedLossModel if loss == "fused" else GPTModel)(
            config=config, transformer_layer_spec=backend.block_spec(config, vp_stage), vocab_size=vocabulary, max_sequence_length=sequence,
            pre_process=first, post_process=last, parallel_output=True, share_embeddings_and_output_weights=model.tied,
            position_embedding_type="rope", rotary_base=model.rope_theta, vp_stage=vp_stage,
        )  # fmt: skip
        chunks.append(chunk.to(backend.device))
    return chunks
