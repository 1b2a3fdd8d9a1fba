from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from megatron_snow.parallel.packing import Packing, context_places, pack, packed_parameters

SAMPLES = [[np.array([0, 5, 6, 16]), np.array([0, 16])], [np.array([0, 1, 2, 3, 16]), np.array([0, 7, 16])]]
"""Two micro-batches of two samples of 16 tokens."""


def test_one_context_rank_has_the_samples_end_to_end() -> None:
    first, second = pack(SAMPLES, context=1, rows=7)
    assert first.starts.tolist() == [0, 5, 6, 16, 32] and second.starts.tolist() == [0, 1, 2, 3, 16, 23, 32]
    assert first.source.tolist() == second.source.tolist() == list(range(32))


@pytest.mark.parametrize("context", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 8])
def test_context_ranks_share_every_document_by_their_chunks(context: int, rows: int) -> None:
    packings = pack(SAMPLES, context, rows)
    assert len({len(packing.source) for packing in packings}) == 1  # a pipeline's messages have one shape
    for packing, samples in zip(packings, SAMPLES, strict=True):
        parts = [packing.part(context, rank) for rank in range(context)]
        assert {len(part) for part in parts} == {len(packing.source) // context} and len(parts[0]) % rows == 0
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(packing.source)))
        lengths = [int(length) for starts in samples for length in np.diff(starts)]
        begin = 0
        for document, (start, end) in enumerate(pairwise(packing.starts.tolist())):
            held = [part[(part >= start) & (part < end)] for part in parts]
            chunk = (end - start) // (2 * context)
            for rank, places in enumerate(held):
                last = start + (2 * context - 1 - rank) * chunk
                assert places.tolist() == [*range(start + rank * chunk, start + (rank + 1) * chunk), *range(last, last + chunk)]
            length = lengths[document] if document < len(lengths) else 0  # a last document of padding
            source = packing.source[start:end].tolist()
            assert source == [*range(begin, begin + length), *[-1] * (end - start - length)]
            begin += length
        assert begin == 32


def test_places_of_one_document_are_megatrons_own_split() -> None:
    assert context_places(np.array([0, 16]), 2, 0).tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert context_places(np.array([0, 16]), 2, 1).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert context_places(np.array([0, 4, 8]), 1, 0).tolist() == list(range(8))


@pytest.mark.parametrize(("starts", "longest"), [([0, 5, 6, 16], 17), ([0, 5, 32], 33), ([0, 16, 32], 16), ([0, 3], 4), ([0, 1, 2], 1), ([0, 1], 2)])
def test_the_longest_document_has_a_bound_that_is_never_the_rows_length(starts: list[int], longest: int) -> None:
    found = packed_parameters(Packing(np.array(starts), np.arange(starts[-1])), torch.device("cpu"))
    assert found.qkv_format == "thd" and found.max_seqlen_q == found.max_seqlen_kv == longest
    assert found.cu_seqlens_q.dtype == torch.int32 and found.cu_seqlens_q.tolist() == found.cu_seqlens_kv.tolist() == starts
