"""Word n-grams of a document as 64-bit hashes, their MinHash bands, and the exact similarity of two documents.

A word is a longest run of ASCII letters, digits, underscores and bytes from 0x80 on, so that layout and punctuation do
not count and text in any script holds words (``csrc/words.hpp``; BigCode's first script takes ``[A-Za-z_0-9]+``, and so
sees nothing in a comment that is not English; its script for StarCoder2 takes Unicode's words in lower case). Words are
hashed with FNV-1a, n-grams combined and mixed, and the least of each of ``bands x rows`` random permutations is a row of
the signature: all in C++ with the GIL released (``csrc/signatures.cpp``), held to a Python twin (``reference``).

A document of fewer than n words is the one n-gram of all of them, and one without words is like no other: both of
BigCode's scripts give what has under five words the empty set, and so make it one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megatron_snow.corpus import native
from megatron_snow.corpus.settings import NearDuplicateSettings


def ngrams(text: bytes, words: int) -> np.ndarray:
    """The distinct n-grams of a UTF-8 text: sorted uint64 [count], count >= 1."""
    return native.ngrams(text, words)


def band_keys(texts: Sequence[bytes], settings: NearDuplicateSettings, threads: int = 1) -> np.ndarray:
    """MinHash bands of UTF-8 texts: uint64 [texts, bands]; two texts are candidates where one band's keys are equal."""
    return native.band_keys(list(texts), settings.words, settings.bands, settings.rows, threads)


def similarities(texts: Sequence[bytes], pairs: np.ndarray, words: int, threads: int = 1) -> np.ndarray:
    """Exact Jaccard similarity of the n-gram sets of pairs of texts.

    ``pairs``: int64 [pairs, 2], places in ``texts``. Returns float64 [pairs]. Raises ValueError where a pair names no text.
    """
    return native.similarities(list(texts), pairs, words, threads)
