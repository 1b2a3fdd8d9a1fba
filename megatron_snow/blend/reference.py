"""Python twins of csrc/: the same results bit for bit, written from the definitions instead of for speed.

Tests hold each pair together; read these to learn what the C++ computes. Nothing at run time uses them.
"""

from __future__ import annotations

import heapq
from math import frexp

import numpy as np
import numpy.typing as npt

_WORD = 2**64
_GOLDEN = 0x9E3779B97F4A7C15
ROUNDS = 6
SMALLEST_BITS = 8


def exact_weights(weights: npt.NDArray[np.float64]) -> list[int]:
    """Integers in exactly the ratios of ``weights``."""
    parts = [frexp(float(weight)) for weight in weights]
    lowest = min(exponent for _, exponent in parts)
    return [int(mantissa * 2**53) << (exponent - lowest) for mantissa, exponent in parts]


def blend_table(weights: npt.NDArray[np.float64], names: npt.NDArray[np.int32], samples: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Tijdeman's rule (csrc/blend_index.cpp), times from their closed forms and in two plain heaps.

    Returns (dataset int32 [samples], index within it int64 [samples]).
    """
    exact = exact_weights(weights)
    total, inverse_delta = sum(exact), max(2 * len(exact) - 2, 1)

    def release(i: int) -> int:
        return -(-(taken[i] * inverse_delta + 1) * total // (exact[i] * inverse_delta))

    def deadline(i: int) -> int:
        return -(-((taken[i] + 1) * inverse_delta - 1) * total // (exact[i] * inverse_delta))

    taken = [0] * len(exact)
    waiting = [(release(i), i) for i in range(len(exact))]
    heapq.heapify(waiting)
    ready: list[tuple[int, int]] = []
    dataset_of, index_of = np.empty(samples, np.int32), np.empty(samples, np.int64)
    for n in range(samples):
        while waiting and waiting[0][0] <= n + 1:
            i = heapq.heappop(waiting)[1]
            heapq.heappush(ready, (deadline(i), i))
        i = heapq.heappop(ready)[1]
        dataset_of[n], index_of[n] = names[i], taken[i]
        taken[i] += 1
        heapq.heappush(waiting, (release(i), i))
    return dataset_of, index_of


class BlendSplit:
    """The recursive rounded split (csrc/blend_split.cpp); a node is (share of the left half, left, right), a leaf a dataset."""

    def __init__(self, weights: npt.NDArray[np.float64], names: npt.NDArray[np.int32]) -> None:
        self._weights, self._names = exact_weights(weights), names
        self._root = self._split(sorted(range(len(names)), key=lambda i: -self._weights[i]))

    def _split(self, items: list[int]) -> tuple | int:
        if len(items) == 1:
            return int(self._names[items[0]])
        halves: tuple[list[int], list[int]] = ([], [])
        sums = [0, 0]
        for item in items:
            half = int(sums[1] < sums[0])
            halves[half].append(item)
            sums[half] += self._weights[item]
        share = (2 * sums[0] * _WORD + sum(sums)) // (2 * sum(sums))
        return share, self._split(halves[0]), self._split(halves[1])

    def at(self, sample: int) -> tuple[int, int]:
        """(dataset, index within it) of one sample."""
        node = self._root
        while isinstance(node, tuple):
            share, left, right = node
            count = _left(sample, share)
            node, sample = (left, count) if _left(sample + 1, share) > count else (right, sample - count)
        return node, sample

    def take(self, first: int, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(dataset int32 [count], index within it int64 [count])."""
        found = [self.at(sample) for sample in range(first, first + count)]
        return np.array([dataset for dataset, _ in found], np.int32), np.array([index for _, index in found], np.int64)

    def counts(self, samples: int) -> npt.NDArray[np.int64]:
        """How many of the first ``samples`` each dataset gives, int64 [datasets]."""
        result = np.zeros(len(self._weights), np.int64)
        waiting = [(self._root, samples)]
        while waiting:
            node, count = waiting.pop()
            if isinstance(node, tuple):
                share, left, right = node
                waiting += [(left, _left(count, share)), (right, count - _left(count, share))]
            else:
                result[node] = count
        return result


def _left(samples: int, share: int) -> int:
    return (2 * samples * share + _WORD) // (2 * _WORD)


def _mixed(z: int) -> int:
    """SplitMix64's output function."""
    z %= _WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % _WORD
    return z ^ (z >> 31)


def round_keys(key: int) -> list[tuple[int, int]]:
    """(added, odd multiplier) of each round: SplitMix64's stream from ``key``."""
    stream = [_mixed(key + step * _GOLDEN) for step in range(1, 2 * ROUNDS + 1)]
    return [(stream[2 * r], stream[2 * r + 1] | 1) for r in range(ROUNDS)]


def bijection(values: npt.NDArray[np.uint64], bits: int, key: int) -> npt.NDArray[np.uint64]:
    """The keyed bijection of the numbers below 2**bits (csrc/permutation.hpp), uint64 in and out."""
    mask, half = np.uint64(2**bits - 1), np.uint64((bits + 1) // 2)
    x = values.astype(np.uint64)
    for added, multiplier in round_keys(key):
        x = ((x + np.uint64(added)) * np.uint64(multiplier)) & mask
        x ^= x >> half
    return x


def domain_bits(size: int) -> int:
    """Bits of the bijection that permutes ``size`` things."""
    return max(SMALLEST_BITS, (size - 1).bit_length())


def permute(index: int, size: int, key: int) -> int:
    """Place of ``index`` in the keyed permutation of 0 .. size - 1: the bijection, applied until it lands below ``size``."""
    at = np.array([index], np.uint64)
    while True:
        at = bijection(at, domain_bits(size), key)
        if at[0] < size:
            return int(at[0])


def document_order(documents: int, key: int) -> npt.NDArray[np.int64]:
    """All documents in the keyed order, int64 [documents]: the bijection's values in turn, those that name a document."""
    listed = bijection(np.arange(2 ** domain_bits(documents), dtype=np.uint64), domain_bits(documents), key)
    return listed[listed < documents].astype(np.int64)


class DocumentOrder:
    """One epoch's token stream (csrc/document_order.cpp), the order and its running sums held whole."""

    def __init__(self, lengths: npt.NDArray[np.int32], key: int) -> None:
        self._order = document_order(len(lengths), key)
        self._ends = np.cumsum(lengths[self._order].astype(np.int64))
        self.tokens = int(self._ends[-1])

    def spans(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """int64 [n, 3]: document, first token in it, count; covers [start, start + count) of the stream, cut at its end."""
        end = min(start + count, self.tokens)
        rows, begin = [], 0
        for document, stop in zip(self._order, self._ends, strict=True):
            first, last = max(begin, start), min(int(stop), end)
            if first < last:
                rows.append((int(document), first - begin, last - first))
            begin = int(stop)
        return np.array(rows, np.int64).reshape(-1, 3)


def digest(data: bytes) -> tuple[int, int]:
    """128-bit fingerprint (csrc/digest.hpp) in two halves."""
    lanes = [_mixed(step * _GOLDEN) for step in range(1, 9)]
    for start in range(0, len(data), 64):
        stripe = data[start : start + 64].ljust(64, b"\0")
        for lane in range(8):
            mixed = lanes[lane] ^ int.from_bytes(stripe[8 * lane : 8 * lane + 8], "little")
            lanes[lane] = ((mixed << 29 | mixed >> 35) % _WORD) * _GOLDEN % _WORD
    return _folded(len(data), lanes), _folded(len(data) + 1, lanes)


def _folded(state: int, lanes: list[int]) -> int:
    for lane in lanes:
        state = _mixed((state ^ lane) + _GOLDEN)
    return state


def megatron_samples(lengths: npt.NDArray[np.int32], order: npt.NDArray[np.int32], sequence_length: int, samples: int) -> npt.NDArray[np.int64]:
    """megatron-core's sample index (csrc/megatron_order.cpp): the document that holds each sample's first token, found by bisection."""
    ends = np.cumsum(lengths[order].astype(np.int64))
    first = np.arange(samples + 1) * sequence_length
    places = np.searchsorted(ends, first, side="right")
    offsets = first - (ends[places] - lengths[order[places]])
    places[0] = offsets[0] = 0
    return np.stack((places, offsets), axis=1)


def megatron_blend(weights: npt.NDArray[np.float64], samples: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """megatron-core's blend (csrc/megatron_order.cpp)."""
    taken = np.zeros(len(weights), np.int64)
    dataset_of, index_of = np.empty(samples, np.int32), np.empty(samples, np.int64)
    for n in range(samples):
        chosen = int(np.argmax(weights * max(n, 1) - taken))
        dataset_of[n], index_of[n] = chosen, taken[chosen]
        taken[chosen] += 1
    return dataset_of, index_of
