from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megatron_snow.parallel.attention import TorchAttention
from megatron_snow.parallel.packing import context_places
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
    for place in range(len(query)):
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            scores = (key[: place + 1, :, kv_head] * query[place, :, head]).sum(-1) / math.sqrt(SIZE)
            out[place, :, head] = (torch.softmax(scores, 0)[..., None] * value[: place + 1, :, kv_head]).sum(0)
    return out.flatten(2)


def test_attention_is_causal_and_groups_queries() -> None:
    query, key, value = inputs()
    torch.testing.assert_close(attention(1)(query, key, value), reference(query, key, value))


STARTS = np.array([0, 4, 8, 16])


def packed(starts: np.ndarray) -> Any:
    return SimpleNamespace(qkv_format="thd", cu_seqlens_q=torch.from_numpy(starts), cu_seqlens_q_padded=None)


def document_reference() -> list[torch.Tensor]:
    """Output and gradients of the first sample's documents, each by itself."""
    leaves = [part[:, :1].clone().requires_grad_() for part in inputs()]
    whole = torch.cat([reference(*(leaf[start:end] for leaf in leaves)) for start, end in pairwise(STARTS.tolist())])
    (whole * torch.arange(whole.size(-1))).sum().backward()
    return [whole.detach()[:, 0], *(leaf.grad[:, 0] for leaf in leaves if leaf.grad is not None)]


def attend_documents(rank: int, world: int, rendezvous: str) -> list[torch.Tensor]:
    """Output and gradients of this rank's places of the first sample's documents."""
    ranks.joined(Layout(context=world), rank, world, rendezvous)
    places = context_places(STARTS, world, rank)
    leaves = [part[places, 0].requires_grad_() for part in inputs()]
    out = attention(world, torch.distributed.group.WORLD)(*leaves, packed_seq_params=packed(STARTS))
    (out * torch.arange(out.size(-1))).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("context", [1, 2])
def test_packed_documents_attend_each_by_itself(context: int) -> None:
    expected = document_reference()
    for rank, found in enumerate(ranks.run(attend_documents, context)):
        for part, full in zip(found, expected, strict=True):
            torch.testing.assert_close(part, full[context_places(STARTS, context, rank)])


def test_no_tensor_of_packed_attention_is_quadratic_in_the_row() -> None:
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(tensor.untyped_storage().nbytes() for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor))
            return out

    length = 1 << 14
    row = torch.zeros(length, 1, SIZE, requires_grad=True)
    with Sizes():
        attention(1)(row, row, row, packed_seq_params=packed(np.array([0, 100, length // 2, length]))).sum().backward()
    assert row.grad is not None and max(sizes) <= 4 * length * SIZE  # the row itself, in fp32; a boolean mask over it would be 2^28


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
