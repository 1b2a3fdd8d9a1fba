"""Documents of one micro-batch laid end to end, each with its own positions and its own causal attention.

What megatron-core and Transformer Engine call the THD format: one row of tokens and the cumulative document lengths,
never a mask. Under context parallelism every document is cut into 2 x context chunks of which rank r holds the r-th
from the front and the r-th from the back (Transformer Engine's partition, so that its ring attention and megatron's
RoPE fit); a document whose length does not divide is padded behind its last token, where causality hides it from the
tokens before. The micro-batches of a step are padded to one length, which is what a pipeline needs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from megatron.core.packed_seq_params import PackedSeqParams

Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Packing:
    """One micro-batch of documents; ``starts`` are cumulative lengths in its row, padding included: int64 [documents + 1]."""

    starts: Ints
    source: Ints
    """Where each place of the row comes from in the samples laid end to end; -1 is padding."""

    def part(self, context: int, rank: int) -> Ints:
        """Places of the row that context rank ``rank`` of ``context`` holds, in its order."""
        return context_places(self.starts, context, rank)


def pack(micro_batches: Sequence[Sequence[Ints]], context: int, rows: int) -> list[Packing]:
    """How the micro-batches of a step are laid out.

    Args:
        micro_batches: of each, the cumulative document lengths of its samples, from 0 to the sequence.
        context: context-parallel size; 1 pads nothing (the layout and FP8 have checked ``sequence`` then).
        rows: what a context rank's part must be a multiple of (sequence parallelism divides it once more, FP8 has blocks).
    """
    lengths = [np.concatenate([np.diff(starts) for starts in samples]).astype(np.int64) for samples in micro_batches]
    multiple = 2 * context if context > 1 else 1
    padded = [-(-each // multiple) * multiple for each in lengths]
    total = max(int(each.sum()) for each in padded)
    if context > 1:
        whole = math.lcm(multiple, rows * context)
        total = -(-total // whole) * whole
    return [_lay_out(each, room, total) for each, room in zip(lengths, padded, strict=True)]


def _lay_out(lengths: Ints, room: Ints, total: int) -> Packing:
    source = np.full(total, -1, dtype=np.int64)
    starts, begin = np.cumsum([0, *room]), np.cumsum([0, *lengths])
    for place, first, length in zip(starts, begin, lengths, strict=False):
        source[place : place + length] = np.arange(first, first + length)
    if starts[-1] < total:
        starts = np.append(starts, total)  # a document of nothing but padding
    return Packing(starts, source)


def context_places(starts: Ints, context: int, rank: int) -> Ints:
    """Places that ``rank`` holds of a row whose documents begin at ``starts`` and divide into 2 x context chunks."""
    if context == 1:
        return np.arange(starts[-1])
    parts = []
    for start, end in itertools.pairwise(starts):
        chunk = (end - start) // (2 * context)
        for number in (rank, 2 * context - 1 - rank):
            parts.append(np.arange(start + number * chunk, start + (number + 1) * chunk))
    return np.concatenate(parts)


def packed_parameters(packing: Packing, device: torch.device) -> PackedSeqParams:
    """What megatron's model takes beside the row: cumulative lengths int32 on the device, the longest document's bound."""
    starts = torch.from_numpy(packing.starts).to(device=device, dtype=torch.int32)
    longest = _longest(packing.starts)
    return PackedSeqParams(qkv_format="thd", cu_seqlens_q=starts, cu_seqlens_kv=starts, max_seqlen_q=longest, max_seqlen_kv=longest)


def _longest(starts: Ints) -> int:
    """A bound on the longest document: a power of two, for kernels and RoPE tables are built once per value.

    Never the row's length: megatron's unfused RoPE takes that to mean that positions run through all documents.
    """
    bound = 1 << (int(np.diff(starts).max()) - 1).bit_length()
    return bound + 1 if bound == starts[-1] else bound
