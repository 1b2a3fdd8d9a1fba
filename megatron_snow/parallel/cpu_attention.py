"""Causal attention for the CPU: blocks of queries against the keys they see, in matrix products and few passes over the scores.

For queries in mid-document, which torch's causal kernels cannot place without a mask. The scores of a
block are made, exponentiated and multiplied by torch's batched products while they are in the cache. Exponentials are
powers of two (torch's exp2 takes a third of its exp on AVX-512; log2(e) goes into the scale), grouped queries share
their key's product instead of copying it, and what is summed over queries is kept transposed, as the products are
faster that way. Backward makes the scores again from the log-sum-exp (Dao et al. 2022, "FlashAttention", appendix B.4):
memory is linear in the sequence. Scores and sums are fp32 (fp64 for fp64 input).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

_ROWS = 64  # ours, LOG.md 2026-11-26: rows of a product; less is overhead, more computes scores that causality hides
_SCORES = 1 << 18  # ours, LOG.md 2026-11-26: scores at a time for each thread, 1 MiB of fp32: a core's second-level cache
_LOG2_E = math.log2(math.e)


def causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Queries [l, b, heads, d] that are the last l of the keys' and values' [s, b, kv heads, d] positions -> [l, b, heads, d].

    ``scale`` multiplies the scores; 1 / sqrt(d) by default.
    """
    out: torch.Tensor = _Causal.apply(query, key, value, query.size(-1) ** -0.5 if scale is None else scale)  # type: ignore[no-untyped-call]
    return out


def _queries(tensor: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """[l, b, heads, d] seen as [b x kv heads, heads a kv head, l, d]."""
    length, batch, heads, size = tensor.shape
    return tensor.reshape(length, batch * kv_heads, heads // kv_heads, size).permute(1, 2, 0, 3)


def _keys(tensor: torch.Tensor) -> torch.Tensor:
    """[s, b, kv heads, d] seen as [b x kv heads, s, d]."""
    return tensor.flatten(1, 2).transpose(0, 1)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy in the precision of scores."""
    return torch.empty(tensor.shape, dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32).copy_(tensor)


def _portions(count: int, group: int, columns: int) -> Iterator[slice]:
    """Key/value heads at a time, so that the scores of a block stay in the cache and every thread has a product."""
    threads = torch.get_num_threads()
    portion = max(threads, threads * _SCORES // (_block(group) * group * columns))
    return (slice(first, min(first + portion, count)) for first in range(0, count, portion))


def _block(group: int) -> int:
    """Queries of a head in a block."""
    return max(16, _ROWS // group)


def _blocks(length: int, group: int) -> Iterator[slice]:
    return (slice(first, min(first + _block(group), length)) for first in range(0, length, _block(group)))


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        kv_heads, offset = key.size(2), key.size(0) - query.size(0)
        out = torch.empty(query.shape, dtype=query.dtype)
        outs = _queries(out, kv_heads)
        count, group, length, size = outs.shape
        partition = _precise(outs[..., :1])  # log2 of the sum of exponentials of each query's scores
        hidden = partition.new_full((_block(group), _block(group)), -math.inf).triu_(1)
        for own in _portions(count, group, key.size(0)):
            q, k, v = _precise(_queries(query, kv_heads)[own]).mul_(scale * _LOG2_E), _precise(_keys(key)[own]), _precise(_keys(value)[own])
            for block in _blocks(length, group):
                seen, rows = offset + block.stop, block.stop - block.start
                scores = torch.bmm(q[:, :, block].flatten(1, 2), k[:, :seen].transpose(1, 2)).view(-1, group, rows, seen)
                scores[..., seen - rows :].add_(hidden[:rows, :rows])
                highest = scores.amax(-1, keepdim=True)
                total = scores.sub_(highest).exp2_().sum(-1, keepdim=True)
                outs[own, :, block] = torch.bmm(scores.flatten(1, 2), v[:, :seen]).view(-1, group, rows, size).div_(total).to(out.dtype)
                partition[own, :, block] = highest + total.log2_()
        ctx.save_for_backward(query, key, value, out, partition)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, out, partition = ctx.saved_tensors
        kv_heads, offset = key.size(2), key.size(0) - query.size(0)
        into_query, into_key, into_value = (torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in (query, key, value))
        count, group, length, size = _queries(query, kv_heads).shape
        for own in _portions(count, group, key.size(0)):
            q, k, v = _precise(_queries(query, kv_heads)[own]).mul_(ctx.scale * _LOG2_E), _precise(_keys(key)[own]), _precise(_keys(value)[own])
            g = _precise(_queries(gradients[0], kv_heads)[own])
            mean = (g * _queries(out, kv_heads)[own]).sum(-1, keepdim=True)
            dq, dk, dv = torch.empty_like(q), k.new_zeros(k.transpose(1, 2).shape), v.new_zeros(v.transpose(1, 2).shape)
            for block in _blocks(length, group):
                seen, rows = offset + block.stop, block.stop - block.start
                queries, grads = q[:, :, block].flatten(1, 2), g[:, :, block].flatten(1, 2)
                weights = torch.bmm(queries, k[:, :seen].transpose(1, 2))
                weights.view(-1, group, rows, seen).sub_(partition[own, :, block]).exp2_()[..., seen - rows :].tril_()
                dv[:, :, :seen].baddbmm_(grads.transpose(1, 2), weights)
                change = torch.bmm(grads, v[:, :seen].transpose(1, 2)).sub_(mean[:, :, block].flatten(1, 2)).mul_(weights)
                dq[:, :, block] = torch.bmm(change, k[:, :seen]).view(-1, group, rows, size)
                dk[:, :, :seen].baddbmm_(queries.transpose(1, 2), change)
            _queries(into_query, kv_heads)[own] = dq.mul_(ctx.scale).to(query.dtype)
            _keys(into_key)[own] = dk.mul_(1 / _LOG2_E).transpose(1, 2).to(key.dtype)
            _keys(into_value)[own] = dv.transpose(1, 2).to(value.dtype)
        return into_query, into_key, into_value, None
