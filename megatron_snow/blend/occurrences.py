"""From documents to the samples that hold them: the way back from ``PhaseDataset.origin``.

A document's place in a pass is its place in the keyed order, computed; the samples that cover it follow from arithmetic,
the place a sample is dealt at from the order's inverse. Only which sample of the phase is a tier's how-manieth is listed, in
runs of ``_RUN`` samples: 61M samples (the paper's 500B tokens) take seconds and memory for the samples that are found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from megatron_snow.blend.shards import Integers

_RUN = 2**20  # samples listed at once (ours: 12 MB)

Found = tuple[Integers, Integers]
"""Samples in ascending order, and how many tokens each holds of the documents asked for: int64 [n] each."""
NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.int64))


def covering(begins: Integers, ends: Integers, sequence_length: int) -> Found:
    """The samples of a stream that tokens [begin, end) of it lie in, a label's token too; one row for each piece and sample.

    Sample s is tokens [s L, s L + L] of the stream. The tokens counted are those the model sees, without the label at its end.
    """
    first, last = np.maximum((begins - 1) // sequence_length, 0), (ends - 1) // sequence_length
    counts = last - first + 1
    piece = np.repeat(np.arange(len(begins)), counts)
    samples = first[piece] + np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = samples * sequence_length
    return samples, np.maximum(np.minimum(ends[piece], start + sequence_length) - np.maximum(begins[piece], start), 0)


def summed(samples: Integers, tokens: Integers) -> Found:
    """Each sample once, with its tokens together."""
    unique, place = np.unique(samples, return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, place, tokens)
    return unique, total


def looked_up(found: Found, wanted: Integers) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Which of ``wanted`` are among the samples found, bool [n], and the tokens of those that are."""
    samples, tokens = found
    if not len(samples):
        return np.zeros(len(wanted), bool), NOTHING[1]
    place = np.minimum(np.searchsorted(samples, wanted), len(samples) - 1)
    hit = samples[place] == wanted
    return hit, tokens[place[hit]]


def listed(length: int, run: Callable[[int, int], Found]) -> Found:
    """``run(first, count)`` over all of ``length`` samples, put together."""
    parts = [run(first, min(_RUN, length - first)) for first in range(0, length, _RUN)]
    return np.concatenate([samples for samples, _ in parts]), np.concatenate([tokens for _, tokens in parts])
