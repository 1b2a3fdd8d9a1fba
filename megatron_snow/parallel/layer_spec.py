"""The transformer layer out of plain torch parts, through megatron's public spec mechanism (nothing is patched).

Two parts differ from megatron's local spec: a norm that allows sequence parallelism, and attention over
``scaled_dot_product_attention`` (memory linear in the sequence where torch has a flash kernel; megatron's unfused
attention is quadratic). Context parallelism gathers keys and values over the group: each rank then holds the whole
sequence's K/V of one layer at a time, which costs memory but needs no ring and works with any kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig


class SequenceParallelNorm:
    """Builds torch's RMSNorm or LayerNorm with its weight marked for megatron's gradient sum over the tensor group."""

    def __new__(cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any) -> torch.nn.Module:  # type: ignore[misc]
        kind = torch.nn.RMSNorm if config.normalization == "RMSNorm" else torch.nn.LayerNorm
        device = torch.device("cpu") if config.use_cpu_initialization else torch.device("cuda", torch.cuda.current_device())
        norm = kind(hidden_size, eps=eps, dtype=config.params_dtype, device=device)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


def zigzag_order(context: int) -> list[int]:
    """Where chunk c of 2 x context sequence chunks lies among the chunks gathered by rank (rank r holds r and 2n-1-r)."""
    return [2 * chunk if chunk < context else 2 * (2 * context - 1 - chunk) + 1 for chunk in range(2 * context)]


class _GatherSequence(torch.autograd.Function):
    """[s/n, ...] on each rank -> [s, ...] in sequence order; backward sums the gradients and takes the own chunks."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, group: torch.distributed.ProcessGroup) -> torch.Tensor:
        ctx.group, size = group, group.size()
        parts = [torch.empty_like(local) for _ in range(size)]
        torch.distributed.all_gather(parts, local.contiguous(), group=group)
        chunks = [chunk for part in parts for chunk in part.chunk(2)]
        return torch.cat([chunks[place] for place in zigzag_order(size)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total, group=ctx.group)
        size, rank = ctx.group.size(), ctx.group.rank()
        chunks = total.chunk(2 * size)
        return torch.cat([chunks[rank], chunks[2 * size - 1 - rank]]), None


class TorchAttention(torch.nn.Module):
    """Causal core attention. query [s, b, heads, d], key and value [s, b, kv heads, d] -> [s, b, heads x d]."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        softmax_scale: float | None = None,
        pg_collection: Any = None,
        **unused: Any,
    ) -> None:
        super().__init__()
        assert attn_mask_type.name == "causal" and config.attention_dropout == 0.0, "causal attention without dropout only"
        self.scale = softmax_scale
        self.context_group = pg_collection.cp if config.context_parallel_size > 1 else None

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any = None,
        attn_mask_type: Any = None,
        attention_bias: Any = None,
        packed_seq_params: Any = None,
    ) -> torch.Tensor:
        """Attend within each sequence; megatron passes no mask for a causal model."""
        assert packed_seq_params is None and attention_bias is None and attention_mask is None, "plain causal attention only"
        mask = None
        if self.context_group is not None:
            key, value = (_GatherSequence.apply(tensor, self.context_group) for tensor in (key, value))  # type: ignore[no-untyped-call]
            mask = self._mask(query.size(0), key.size(0), query.device)
        q, k, v = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=self.scale, enable_gqa=q.size(1) != k.size(1))
        return out.permute(2, 0, 1, 3).reshape(query.size(0), query.size(1), -1)

    def _mask(self, local: int, total: int, device: torch.device) -> torch.Tensor:
        """True where a query of this rank (chunks r and 2n-1-r) may look: [local, total]."""
        size, rank, chunk = self.context_group.size(), self.context_group.rank(), local // 2  # type: ignore[union-attr]
        places = torch.arange(total, device=device).chunk(2 * size)
        own = torch.cat([places[rank], places[2 * size - 1 - rank]])
        assert own.numel() == 2 * chunk
        return torch.arange(total, device=device)[None] <= own[:, None]

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Attention holds no weights."""
        return {}


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
