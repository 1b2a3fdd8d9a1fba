from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch

from megatron_snow.parallel.layer_spec import TorchAttention, zigzag_order
from megatron_snow.parallel.settings import Layout
from tests.training import ranks

SEQUENCE, BATCH, HEADS, KV_HEADS, SIZE = 16, 2, 4, 2, 8


def attention(context: int, group: Any = None) -> TorchAttention:
    config: Any = SimpleNamespace(attention_dropout=0.0, context_parallel_size=context)
    return TorchAttention(config, 1, SimpleNamespace(name="causal"), "self", pg_collection=SimpleNamespace(cp=group))


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(SEQUENCE, BATCH, heads, SIZE, generator=generator, dtype=torch.float64) for heads in (HEADS, KV_HEADS, KV_HEADS)]


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention one query at a time, written out."""
    out = torch.zeros_like(query)
    for place in range(SEQUENCE):
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            scores = (key[: place + 1, :, kv_head] * query[place, :, head]).sum(-1) / math.sqrt(SIZE)
            out[place, :, head] = (torch.softmax(scores, 0)[..., None] * value[: place + 1, :, kv_head]).sum(0)
    return out.reshape(SEQUENCE, BATCH, HEADS * SIZE)


def test_attention_is_causal_and_groups_queries() -> None:
    query, key, value = inputs()
    torch.testing.assert_close(attention(1)(query, key, value), reference(query, key, value))


def test_zigzag_order_undoes_the_split() -> None:
    for size in (1, 2, 3, 4):
        gathered = [chunk for rank in range(size) for chunk in (rank, 2 * size - 1 - rank)]
        assert [gathered[place] for place in zigzag_order(size)] == list(range(2 * size))


def attend_in_parts(rank: int, world: int, rendezvous: str) -> list[torch.Tensor]:
    """Output and gradients of this rank's chunks."""
    ranks.joined(Layout(context=world), rank, world, rendezvous)
    own = [[part.chunk(2 * world)[place] for place in (rank, 2 * world - 1 - rank)] for part in inputs()]
    leaves = [torch.cat(chunks).requires_grad_() for chunks in own]
    out = attention(world, torch.distributed.group.WORLD)(*leaves)
    (out * torch.arange(out.size(-1))).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def test_context_parallel_attention_has_the_whole_sequences_outputs_and_gradients() -> None:
    leaves = [part.requires_grad_() for part in inputs()]
    whole = reference(*leaves)
    (whole * torch.arange(whole.size(-1))).sum().backward()
    expected = [whole.detach(), *(leaf.grad for leaf in leaves)]
    for rank, found in enumerate(ranks.run(attend_in_parts, 2)):
        for part, full in zip(found, expected, strict=True):
            assert full is not None
            chunks = full.chunk(4)
            torch.testing.assert_close(part, torch.cat([chunks[rank], chunks[3 - rank]]))
