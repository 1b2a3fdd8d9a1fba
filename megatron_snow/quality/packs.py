"""Packs: sections laid one behind the other up to a fixed number of tokens, each attending to itself alone.

Nothing is padded up to a neighbour's length, so that what is wasted is the end of a call's last packs. A pack always has the same number
of tokens, so that matrix products have one shape; attention is computed section by section, each at its own length. A section's
vector is then the same, bit for bit, whatever lies beside it. The attention goes in by transformers' own registry
(``AttentionInterface``); models that ask it leave their code as it is.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

ATTENTION = "snow_sections"
"""Name of ``attend`` in transformers' registry."""
_MULTIPLE = 64  # rows that matrix kernels take at a time (oneDNN 6 to 64, CUDA 64 to 256): a pack has no odd rows that another kernel would compute (ours)


@dataclass(frozen=True)
class Pack:
    """Sections computed together."""

    sections: list[np.ndarray]
    """Token ids, int32, special tokens included."""
    tokens: int
    """Tokens of the pack, the dummies at its end included."""


@dataclass(frozen=True)
class Plan:
    """A call's sections, equal ones together, cut into packs."""

    copies: list[list[int]]
    """Indices of equal sections."""
    packs: list[Pack]
    members: list[list[int]]
    """For each pack the indices into ``copies`` of its sections."""

    @property
    def sections(self) -> int:
        """All sections, copies included."""
        return sum(map(len, self.copies))

    @property
    def tokens(self) -> int:
        """Tokens of the distinct sections."""
        return sum(len(section) for pack in self.packs for section in pack.sections)

    @property
    def with_padding(self) -> int:
        """Tokens that are computed."""
        return sum(pack.tokens for pack in self.packs)


def capacity(tokens: int, section: int) -> int:
    """Tokens of a pack: about ``tokens``, one full section at least."""
    return -(-max(tokens, section) // _MULTIPLE) * _MULTIPLE


def plan(sections: list[np.ndarray], tokens: int | None) -> Plan:
    """Cut into packs of ``tokens``, or, where that is None, a section a pack at its own length."""
    groups: dict[bytes, list[int]] = {}
    for index, section in enumerate(sections):
        groups.setdefault(section.tobytes(), []).append(index)
    copies = list(groups.values())
    distinct = [sections[members[0]] for members in copies]
    members = [[i] for i in range(len(distinct))] if tokens is None else best_fit([len(section) for section in distinct], tokens)
    packs = [Pack([distinct[i] for i in found], tokens or sum(len(distinct[i]) for i in found)) for found in members]
    return Plan(copies, packs, members)


def best_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Indices of ``lengths`` (each at most ``room``) in bins of ``room``: longest first, each into the fullest bin that takes it.

    >>> best_fit([3, 6, 4, 7], 10)
    [[3, 0], [1, 2]]
    """
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []  # (room left, bin), ascending
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        at = bisect_left(open_bins, (length, -1))
        if at == len(open_bins):
            bins.append([])
            left, number = room, len(bins) - 1
        else:
            left, number = open_bins.pop(at)
        bins[number].append(index)
        if left > length:
            insort(open_bins, (left - length, number))
    return bins


def tensors(pack: Pack, section: int, pad: int, first: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Token ids and positions, int64 [1, tokens], and the lengths of the sections, those of dummies (at most ``section`` long) behind.

    ``first``: the position of a section's first token.
    """
    lengths = [len(tokens) for tokens in pack.sections]
    left = pack.tokens - sum(lengths)
    lengths += [section] * (left // section) + [left % section] * (left % section > 0)
    ids = np.full(pack.tokens, pad, dtype=np.int64)
    np.concatenate(pack.sections, out=ids[: pack.tokens - left], casting="safe")
    positions = np.concatenate([np.arange(first, first + length) for length in lengths])
    return torch.from_numpy(ids)[None], torch.from_numpy(positions)[None], lengths


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    section_lengths: list[int] | None = None,
    section_ends: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within sections: [1, heads, tokens, size] each in, [1, tokens, heads, size] out; transformers' attention interface.

    ``section_lengths``: of the sections, all tokens together. ``section_ends``: 0 and their running sums, int32 on the device: where it is
    given torch's kernel for sections of unequal lengths (flash attention) takes them all at once.
    """
    assert section_lengths is not None, "computed without sections"
    if section_ends is not None:
        return _attend_at_once(query, key, value, section_ends, max(section_lengths), scaling), None
    out = torch.empty_like(query.transpose(1, 2))
    for first, end in itertools.pairwise(itertools.accumulate(section_lengths, initial=0)):
        part = torch.nn.functional.scaled_dot_product_attention(query[:, :, first:end], key[:, :, first:end], value[:, :, first:end], scale=scaling)
        out[:, first:end] = part.transpose(1, 2)
    return out, None


def _attend_at_once(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, longest: int, scaling: float | None) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    size = query.shape[-1]
    if scaling is not None and scaling != size**-0.5:  # the kernel's own scale
        query = query * (scaling * size**0.5)
    rows = [tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value)]
    found = varlen_attn(rows[0], rows[1], rows[2], ends, ends, longest, longest)
    assert isinstance(found, torch.Tensor)  # more is returned where more is asked for
    return found[None]


AttentionInterface.register(ATTENTION, attend)
