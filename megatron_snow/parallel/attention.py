"""Causal attention out of torch alone: whole sequences or packed documents, context parallel or not.

Memory is linear in the sequence (``cpu_attention``, or torch's flash kernels); megatron's unfused attention is
quadratic. Packed documents are attended one after another, from their cumulative lengths: no mask over the row exists.
Context parallelism gathers keys and values over the group: each rank then holds the whole sequence's K/V of one layer
at a time, which costs memory but needs no ring and works with any kernel; on a GPU (without Transformer Engine) a chunk
of queries in mid-document carries a mask of its own size, as torch's causal flag aligns the first query with the first key.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.parallel.cpu_attention import causal_attention
from megatron_snow.parallel.packing import Ints, context_places


class _Gather(torch.autograd.Function):
    """[s/n, ...] on each rank -> [s, ...] in sequence order; backward sums the gradients and takes the own places."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, starts: Ints, group: torch.distributed.ProcessGroup) -> torch.Tensor:
        places = [torch.from_numpy(context_places(starts, group.size(), rank)).to(local.device) for rank in range(group.size())]
        ctx.group, ctx.own = group, places[group.rank()]
        parts = [torch.empty_like(local, memory_format=torch.contiguous_format) for _ in places]
        torch.distributed.all_gather(parts, local.contiguous(), group=group)
        whole = local.new_empty((int(starts[-1]), *local.shape[1:]))
        whole[torch.cat(places)] = torch.cat(parts)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total, group=ctx.group)
        return total[ctx.own], None, None


class TorchAttention(torch.nn.Module):
    """Causal core attention. query [s, b, heads, d], key and value [s, b, kv heads, d] -> [s, b, heads x d].

    Packed (``packed_seq_params`` in THD format) without the batch dimension: [t, heads, d] -> [t, heads x d].
    """

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
        """Attend within each sequence or document; megatron passes no mask for a causal model."""
        assert attention_bias is None and attention_mask is None, "causal attention without mask or bias only"
        if packed_seq_params is not None:
            assert packed_seq_params.qkv_format == "thd" and packed_seq_params.cu_seqlens_q_padded is None, "documents by cumulative lengths only"
            starts = packed_seq_params.cu_seqlens_q.cpu().numpy().astype(np.int64)
            return self._documents(query[:, None], key[:, None], value[:, None], starts)[:, 0]
        if self.context_group is None:
            return self._attend(query, key, value)
        return self._documents(query, key, value, np.array([0, query.size(0) * self.context_group.size()]))

    def _documents(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: Ints) -> torch.Tensor:
        """Attention within each document of a row; query, key and value are this context rank's chunks of it."""
        if self.context_group is None:
            return torch.cat([self._attend(query[a:b], key[a:b], value[a:b]) for a, b in itertools.pairwise(starts)])
        size, rank = self.context_group.size(), self.context_group.rank()
        key, value = (_Gather.apply(tensor, starts, self.context_group) for tensor in (key, value))  # type: ignore[no-untyped-call]
        out, place = [], 0
        for start, end in itertools.pairwise(starts):
            chunk = int(end - start) // (2 * size)
            for number in (rank, 2 * size - 1 - rank):
                seen = slice(int(start), int(start) + (number + 1) * chunk)
                out.append(self._attend(query[place : place + chunk], key[seen], value[seen]))
                place += chunk
        return torch.cat(out)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Queries [l, b, heads, d] that are the last l of the keys' [s, b, kv heads, d] positions -> [l, b, heads x d]."""
        rows, columns = query.size(0), key.size(0)
        if query.device.type == "cpu" and rows < columns:
            return causal_attention(query, key, value, self.scale).flatten(2)
        mask = None if rows == columns else torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows)
        q, k, v = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=self.scale, enable_gqa=q.size(1) != k.size(1))
        return out.permute(2, 0, 1, 3).reshape(rows, query.size(1), -1)

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Attention holds no weights."""
        return {}
