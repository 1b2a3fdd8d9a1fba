"""Measures of how varied a set of texts is, and how far two sets are apart. Pure functions on texts and vectors.

Distinct-n (Li et al., arXiv 1510.03055), overlap of n-grams, Jensen-Shannon divergence in bits (0: the same distribution, 1: nothing in
common), nearest neighbours. Effective numbers are in ``signatures.diversity``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from megatron_snow.signatures.distributions import jensen_shannon

Ngram = tuple[str, ...]
_WORD = re.compile(r"\w+|[^\w\s]")
_IMPORTS = (
    re.compile(r"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]\w*)", re.MULTILINE),  # Python, and the first part of Java's, Scala's, Kotlin's, Swift's and Dart's
    re.compile(r"""^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)""", re.MULTILINE),  # C, C++
    re.compile(r"""\b(?:require|import)\b[^'"\n]{0,80}['"]([^'"\n]+)['"]""", re.MULTILINE),  # JavaScript, TypeScript, Ruby, PHP, Go
    re.compile(r"^[ \t]*use[ \t]+([A-Za-z_]\w*)", re.MULTILINE),  # Rust, PHP
    re.compile(r"^[ \t]*using[ \t]+([A-Za-z_][\w.]*)[ \t]*;", re.MULTILINE),  # C#
)


def words(text: str) -> list[str]:
    """Words and marks, in order."""
    return _WORD.findall(text)


def ngrams(sequence: Sequence[str], n: int) -> list[Ngram]:
    """All runs of ``n``."""
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def imports(text: str) -> list[str]:
    """Names of what a file imports, in whatever language, each once: by its usual notations, not by a parser."""
    return sorted({name for pattern in _IMPORTS for name in pattern.findall(text)})


def distinct(texts: Iterable[Sequence[str]], n: int, budget: int) -> float | None:
    """Distinct n-grams over n-grams in the first ``budget`` words (the share falls with length: compare equal budgets). None: there are none."""
    seen: set[Ngram] = set()
    total = 0
    for sequence in texts:
        part = ngrams(sequence[:budget], n)
        seen.update(part)
        total += len(part)
        budget -= len(sequence)
        if budget <= 0:
            break
    return len(seen) / total if total else None


def self_overlap(texts: Sequence[Sequence[str]], n: int) -> list[float]:
    """Of each text, the share of its distinct n-grams that another one has too; texts shorter than n are left out."""
    sets = [set(ngrams(sequence, n)) for sequence in texts]
    holders = Counter(gram for one in sets for gram in one)
    return [sum(holders[gram] > 1 for gram in one) / len(one) for one in sets if one]


def contained(inner: Sequence[str], outer: Sequence[str], n: int) -> float | None:
    """Share of the distinct n-grams of ``inner`` that ``outer`` has; None where it has none."""
    grams = set(ngrams(inner, n))
    return len(grams & set(ngrams(outer, n))) / len(grams) if grams else None


def divergence(a: Mapping[str, float], b: Mapping[str, float]) -> float | None:
    """Jensen-Shannon divergence in bits of two distributions given as counts or shares; None where one is empty."""
    return jensen_shannon(a, b) if any(a.values()) and any(b.values()) else None


def nearest(vectors: np.ndarray, others: np.ndarray, *, same: bool = False) -> np.ndarray:
    """Of each unit vector the cosine of the nearest of ``others`` (``same``: which are these vectors themselves, so that none is its own)."""
    result = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), 1024):  # ours: bounds the matrix of cosines
        cosines = vectors[start : start + 1024] @ others.T
        if same:
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        result[start : start + 1024] = cosines.max(axis=1)
    return result


def summary(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Mean, median and 90th percentile; None of nothing."""
    if not len(values):
        return None
    array = np.asarray(values, dtype=np.float64)
    return {"mean": float(array.mean()), "median": float(np.median(array)), "p90": float(np.percentile(array, 90))}
