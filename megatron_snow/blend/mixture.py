"""A blend whose datasets may run out.

While all last, sample n is ``BlendSplit``'s. Where the next sample would come from a dataset that has no more to give,
that dataset leaves and the others go on with a split of their own, in their proportions: a chain of splits, each within
1.5 samples of what is asked from where it begins. Which sample that happens at follows from counts alone, so nothing is
stored per sample here either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_snow.blend.index import BlendSplit


@dataclass(frozen=True)
class _Segment:
    """The samples from ``first`` on, shared by ``members``, who have given ``given`` before."""

    first: int
    split: BlendSplit
    members: list[int]
    given: list[int]


class Mixture:
    """Random access to the first ``samples`` samples of a blend with limits."""

    def __init__(self, weights: Sequence[float], limits: Sequence[int | None], seed: int, samples: int) -> None:
        """``limits``: how many samples each dataset has; None for one without end. Raises SnowError for weights out of range.

        ``len`` is ``samples``, or less where all datasets run out before.
        """
        given, at = [0] * len(weights), 0
        self._segments: list[_Segment] = []
        self._datasets = len(weights)
        self.leaves: dict[int, int] = {}
        """Dataset -> the sample from which on it gives none, for those that run out."""
        while at < samples:
            members = [i for i, limit in enumerate(limits) if limit is None or given[i] < limit]
            self.leaves |= {i: at for i in range(len(weights)) if i not in members and i not in self.leaves}
            if not members:
                break
            split = BlendSplit([weights[i] for i in members], seed)
            self._segments.append(_Segment(at, split, members, [given[i] for i in members]))
            left = [samples if (limit := limits[i]) is None else limit - given[i] for i in members]
            taken = _most(split, left, samples - at)
            for i, count in zip(members, split.counts(taken).tolist(), strict=True):
                given[i] += count
            at += taken
        self._firsts = [segment.first for segment in self._segments]
        self._samples = at

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, sample: int) -> tuple[int, int]:
        """(dataset, index within it) of one sample. Raises IndexError outside 0 .. len - 1."""
        if not 0 <= sample < self._samples:
            raise IndexError(f"sample {sample} of {self._samples}")
        segment = self._segments[bisect_right(self._firsts, sample) - 1]
        member, index = segment.split[sample - segment.first]
        return segment.members[member], segment.given[member] + index

    def take(self, first: int, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(dataset int32 [count], index within it int64 [count]) of samples ``first`` and on. Raises IndexError outside 0 .. len."""
        if first < 0 or count < 0 or first + count > self._samples:
            raise IndexError(f"samples {first} to {first + count} of {self._samples}")
        datasets, indices = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for number, segment in enumerate(self._segments):
            end = self._firsts[number + 1] if number + 1 < len(self._firsts) else self._samples
            begin, stop = max(first, segment.first), min(first + count, end)
            if begin < stop:
                member, index = segment.split.take(begin - segment.first, stop - begin)
                datasets.append(np.array(segment.members, np.int32)[member])
                indices.append(np.array(segment.given, np.int64)[member] + index)
        return np.concatenate(datasets), np.concatenate(indices)

    def counts(self, samples: int) -> npt.NDArray[np.int64]:
        """How many of the first ``samples`` samples each dataset gives, int64 [datasets]."""
        if not 0 <= samples <= self._samples:
            raise IndexError(f"{samples} samples of {self._samples}")
        result = np.zeros(self._datasets, np.int64)
        for number, segment in enumerate(self._segments):
            if segment.first >= samples:
                break
            end = self._firsts[number + 1] if number + 1 < len(self._firsts) else self._samples
            result[segment.members] += segment.split.counts(min(end, samples) - segment.first)
        return result


def _most(split: BlendSplit, left: list[int], samples: int) -> int:
    """The largest number of samples, ``samples`` at most, that asks no dataset for more than it has left."""
    if min(left) >= samples:
        return samples
    bound = np.array(left)
    low, high = 0, samples
    while low < high:
        middle = (low + high + 1) // 2
        if (split.counts(middle) <= bound).all():
            low = middle
        else:
            high = middle - 1
    return low
