"""Python twins of the compiled parts of this package, in the plainest form: what the tests hold csrc/ to, result for result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

_WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")
_ALL = 2**64 - 1
_ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the usual multiplicative constant
_MIX = 0xD6E8FEB86659FD93  # rrmxmx's multiplier
_NO_WORDS = int.from_bytes(b"no words", "big")
_SEED = 1


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits (draft-eastlake-fnv)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & _ALL
    return value


def split_mix(seed: int) -> Iterator[int]:
    """SplitMix64's stream (Steele, Lea, Flood 2014)."""
    while True:
        seed = (seed + _ODD) & _ALL
        value = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & _ALL
        value = (value ^ value >> 27) * 0x94D049BB133111EB & _ALL
        yield value ^ value >> 31


def words_of(text: bytes) -> list[bytes]:
    """The words of a text, in order."""
    return _WORD.findall(text)


def ngram_hash(words: Sequence[bytes]) -> int:
    """The hash of one n-gram."""
    number = len(words)
    for word in words:
        number = (number * _ODD + fnv1a(word)) & _ALL
    return _mixed(number)


def ngrams(text: bytes, width: int) -> list[int]:
    """The distinct n-grams of a text, sorted."""
    words = words_of(text)
    if not words:
        return [_mixed(fnv1a(text) ^ _NO_WORDS)]
    width = min(width, len(words))
    return sorted({ngram_hash(words[i : i + width]) for i in range(len(words) - width + 1)})


def band_keys(text: bytes, width: int, bands: int, rows: int) -> list[int]:
    """The MinHash band keys of one text."""
    xs = [value >> 32 for value in ngrams(text, width)]
    random = split_mix(_SEED)
    minima = []
    for _ in range(bands * rows):
        both = next(random)
        multiply, add = both & 0xFFFFFFFF | 1, both >> 32
        minima.append(min((multiply * x + add) & 0xFFFFFFFF for x in xs))
    keys = []
    for band in range(bands):
        key = 0
        for value in minima[band * rows : (band + 1) * rows]:
            key = (key * _ODD + value) & _ALL
            key = (key ^ key >> 32) * _MIX & _ALL
        keys.append(key)
    return keys


def jaccard(a: bytes, b: bytes, width: int) -> Fraction:
    """Jaccard similarity of two texts' n-gram sets."""
    first, second = set(ngrams(a, width)), set(ngrams(b, width))
    return Fraction(len(first & second), len(first | second))


def _mixed(value: int) -> int:
    value = (value ^ value >> 32) * _MIX & _ALL
    return value ^ value >> 32


def cluster_roots(bands: Sequence[Sequence[int]], near: Callable[[int, int], bool], rounds: int) -> list[int]:
    """The preferred document of each document's cluster. ``bands``: the keys of all documents in each band.

    Buckets of a band are gone through side by side: a round's unions are seen by the next.
    """
    cluster = list(range(len(bands[0]) if bands else 0))
    refused: set[tuple[int, int]] = set()
    for keys in bands:
        buckets = [[i for i, key in enumerate(keys) if key == one] for one in sorted(set(keys))]
        for _ in range(rounds):
            asked = [(b[0], i) for b in buckets for i in b[1:] if cluster[i] != cluster[b[0]] and (b[0], i) not in refused]
            for leader, member in asked:
                if not near(leader, member):
                    refused.add((leader, member))
                    continue
                both = {cluster[leader], cluster[member]}
                cluster = [min(both) if one in both else one for one in cluster]
            buckets = [[i for i in b[1:] if cluster[i] != cluster[b[0]]] for b in buckets if b]
    return cluster


def find_items(whole: Sequence[bytes], words: Sequence[bytes], width: int, overlap: float, text: bytes) -> list[tuple[int, bool, float]]:
    """The items in an ASCII text, as ``Needles.find``: (item, whether as a whole, share of its words covered)."""
    compared = b"".join(text.split()).lower()
    there = set(_runs(words_of(text.lower()), width))
    found = []
    for number, (sought, wording) in enumerate(zip(whole, words, strict=True)):
        if sought and sought in compared:
            found.append((number, True, 1.0))
            continue
        own = words_of(wording.lower())
        covered: set[int] = set()
        every: set[int] = set()
        for start, run in enumerate(_runs(own, width)):
            if 2 * sum(len(word) > 1 and re.search(rb"[a-z\x80-\xff]", word) is not None for word in run) >= width:
                every |= set(range(start, start + width))
                covered |= set(range(start, start + width)) if run in there else set()
        if covered and len(covered) / len(every) >= overlap:
            found.append((number, False, len(covered) / len(every)))
    return found


def _runs(words: Sequence[bytes], width: int) -> list[tuple[bytes, ...]]:
    return [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]
