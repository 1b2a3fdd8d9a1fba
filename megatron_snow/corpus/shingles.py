"""Word n-grams of a document as 64-bit hashes, and their MinHash bands.

A word is a run of letters, digits and underscores, so that layout and punctuation do not count. Words are hashed with
BLAKE2b once each (Python's own hash differs between processes); n-grams are combined and mixed in numpy; the
permutations are rensa's, one Rust call for many documents. Measured: 17 MB of source a second on a busy core, most of it
in splitting words.

A document of fewer than n words is the one n-gram of all of them, and one without words is like no other: the public
BigCode script gives both the empty set and so makes them one cluster (paper.md rule 7).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from megatron_snow.corpus.settings import NearDuplicateSettings

_WORD = re.compile(r"\w+")
_WORDS_REMEMBERED = 2**20  # bounds the memory of a long task to about 100 MB (ours)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, the usual multiplicative constant
_MIX = np.uint64(0xD6E8FEB86659FD93)  # rrmxmx's multiplier
_HALF = np.uint64(32)
SEED = 1  # of the permutations; part of the method, not of the recipe: equal corpora cluster equally under every seed


class _Words(dict[str, int]):
    """Word -> 64-bit hash, remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _WORDS_REMEMBERED:
            self.clear()
        value = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return value


class Shingler:
    """Makes documents' n-gram sets; keeps the word hashes it has seen."""

    def __init__(self, words: int) -> None:
        self.words = words
        self._hashes = _Words()

    def shingles(self, text: str) -> np.ndarray:
        """The distinct n-grams of a text: sorted uint64 [count], count >= 1."""
        found = _WORD.findall(text)
        if not found:
            whole = hashlib.blake2b(text.encode(), digest_size=8, person=b"no words").digest()
            return np.frombuffer(whole, dtype="<u8").astype(np.uint64)
        hashes = np.fromiter(map(self._hashes.__getitem__, found), dtype=np.uint64, count=len(found))
        width = min(self.words, len(found))
        count = len(found) - width + 1
        combined = np.full(count, width, dtype=np.uint64)
        for offset in range(width):
            combined *= _ODD
            combined += hashes[offset : offset + count]
        combined ^= combined >> _HALF
        combined *= _MIX
        combined ^= combined >> _HALF
        return np.unique(combined)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Exact Jaccard similarity of two sorted arrays of distinct values."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def band_keys(sets: Sequence[np.ndarray], settings: NearDuplicateSettings) -> np.ndarray:
    """MinHash bands of the documents: uint64 [documents, bands]; two documents are candidates where one band's keys are equal."""
    import rensa

    if not sets:
        return np.empty((0, settings.bands), dtype=np.uint64)
    flat = np.concatenate(sets)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets])]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, settings.permutations, SEED)
    digests = np.array(matrix.to_rows(), dtype=np.uint64)[:, : settings.bands * settings.rows].reshape(len(sets), settings.bands, settings.rows)
    keys = np.zeros((len(sets), settings.bands), dtype=np.uint64)
    for row in range(settings.rows):
        keys *= _ODD
        keys += digests[:, :, row]
        keys ^= keys >> _HALF
        keys *= _MIX
    return keys
