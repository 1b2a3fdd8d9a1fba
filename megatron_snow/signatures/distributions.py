"""How far one tier's files are from another's: Jensen-Shannon divergence of what they are made of.

    JS(P, Q) = H((P + Q) / 2) - (H(P) + H(Q)) / 2, in bits: 0 for equal distributions, 1 for disjoint ones   (Lin, IEEE Trans. Inf. Theory 37, 1991)

What is counted: bytes by language; and within each language, so that another mix of languages does not count twice, lengths
(powers of two), imported names, called names, and word pairs. Languages are weighed by the other tier's files.

Two samples of one distribution differ too, the more the fewer files there are and the richer the distribution. That part, the floor,
is measured: as many files of the standard tier, cut to the same lengths, against the rest of it. What counts is
the divergence beyond the floor.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from megatron_snow.artifacts.documents import Document
from megatron_snow.signatures.sampling import Sample

LANGUAGE_THRESHOLD = 0.25  # ours: bits; Python from a tenth of the bytes to the half that the paper asks for makes 0.15
WITHIN_THRESHOLDS = {"length": 0.25, "imports": 0.25, "calls": 0.15, "word pairs": 0.1}
"""Bits beyond the floor (ours: three times and more of what selection alone makes of a real corpus: -0.02, 0.05, -0.01, -0.01; LOG.md, 2026-11-26)."""
_FEWEST = 8  # files of a language on each side, to compare it at all (ours: below that the floor is nearly all there is)
_SHOWN = 8  # items that differ most
_ITEMS = 300  # the most frequent items of a language, told apart; the others count as one (ours: else the floor is nearly all there is)
_REST = "(all others)"
_MOST_CHARACTERS = 20_000  # of a file that are looked at (ours: bounds the time for minified giants)

_IMPORTS = {
    "Python": r"^[ \t]*(?:from|import)[ \t]+(\w+)",
    "C": r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)",
    "C++": r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)",
    "Java": r"^[ \t]*import[ \t]+(?:static[ \t]+)?(\w+(?:\.\w+)?)",
    "Kotlin": r"^[ \t]*import[ \t]+(\w+(?:\.\w+)?)",
    "Scala": r"^[ \t]*import[ \t]+(\w+(?:\.\w+)?)",
    "JavaScript": r"(?:require\(|from[ \t]+|^[ \t]*import[ \t]+)['\"]([^'\"\n]+)",
    "TypeScript": r"(?:require\(|from[ \t]+|^[ \t]*import[ \t]+)['\"]([^'\"\n]+)",
    "Go": r"^[ \t]*(?:import[ \t]+)?(?:\w+[ \t]+)?\"([\w./-]+)\"[ \t]*$",
    "Rust": r"^[ \t]*(?:pub[ \t]+)?use[ \t]+(\w+)",
    "C#": r"^[ \t]*using[ \t]+(\w+(?:\.\w+)?)",
    "PHP": r"^[ \t]*use[ \t]+(\w+(?:\\\w+)?)",
    "Ruby": r"^[ \t]*require(?:_relative)?[ \t]*\(?['\"]([^'\"\n]+)",
    "Swift": r"^[ \t]*import[ \t]+(\w+)",
    "Dart": r"^[ \t]*import[ \t]+['\"]([^'\"\n]+)",
}
"""How a language names what it uses (ours: line patterns; comments and strings that look like one count too)."""
_IMPORT_PATTERNS = {language: re.compile(pattern, re.MULTILINE) for language, pattern in _IMPORTS.items()}
_CALL = re.compile(r"\b([A-Za-z_]\w*)[ \t]*\(")
_WORD = re.compile(r"\w+|[^\w\s]")

Features = Callable[[Document], Counter[str]]


def jensen_shannon(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Divergence of two sets of counts, in bits. Raises ValueError where one is empty."""
    total, total_other = sum(one.values()), sum(other.values())
    if not total or not total_other:
        raise ValueError("a distribution of nothing")
    found = 0.0
    for key in one.keys() | other.keys():
        p, q = one.get(key, 0) / total, other.get(key, 0) / total_other
        middle = (p + q) / 2
        found += (p * math.log2(p / middle) if p else 0.0) / 2 + (q * math.log2(q / middle) if q else 0.0) / 2
    return min(1.0, max(0.0, found))


def _length(document: Document) -> Counter[str]:
    return Counter([f"{2 ** int(math.log2(max(len(document['text']), 1)))} characters and more"])


def _imports(document: Document) -> Counter[str]:
    pattern = _IMPORT_PATTERNS.get(document["language"])
    return Counter(pattern.findall(document["text"][:_MOST_CHARACTERS])) if pattern else Counter()


def _calls(document: Document) -> Counter[str]:
    return Counter(_CALL.findall(document["text"][:_MOST_CHARACTERS]))


def _pairs(document: Document) -> Counter[str]:
    words = _WORD.findall(document["text"][:_MOST_CHARACTERS])
    return Counter(f"{a} {b}" for a, b in pairwise(words))


FEATURES: dict[str, Features] = {"length": _length, "imports": _imports, "calls": _calls, "word pairs": _pairs}


def compare_languages(other: Mapping[str, int], standard: Mapping[str, int]) -> dict[str, Any]:
    """Divergence of the bytes by language. No floor: both tiers are counted whole, or in so many places that it is small beside the threshold."""
    divergence = jensen_shannon(other, standard)
    return _row("language", divergence, 0.0, LANGUAGE_THRESHOLD, _differing(other, standard))


def compare_within(other: Sample, standard: Sample) -> list[dict[str, Any]]:
    """A row a feature: ``name``, ``divergence``, ``floor``, ``threshold``, ``alarm``, ``languages`` compared, ``most`` [item, share there, share in standard].

    Divergence and floor are means over the languages of which both sides have enough files, weighed by the other side's.
    ``divergence`` is None where no language has them.
    """
    usable = {language: files for language, files in other.items() if len(files) >= _FEWEST and len(standard.get(language, [])) >= 2 * _FEWEST}
    return [_within(name, features, usable, standard) for name, features in FEATURES.items()]


def _within(name: str, features: Features, other: Sample, standard: Sample) -> dict[str, Any]:
    divergences, floors, weights, compared = [], [], [], []
    here: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for language, files in other.items():
        pool = standard[language]
        count = min(len(files), len(pool) // 2)
        part, rest = pool[:count], pool[count:]
        own, reference = _count(files[:count], features), _count(rest, features)
        cut = part if name == "length" else [_cut(document, file["text"]) for document, file in zip(part, files, strict=False)]
        control = _count(cut, features)
        if not own or not reference or not control:
            continue
        frequent = {item for item, _ in (own + reference).most_common(_ITEMS)}
        own, reference, control = (_lumped(counts, frequent) for counts in (own, reference, control))
        divergences.append(jensen_shannon(own, reference))
        floors.append(jensen_shannon(control, reference))
        weights.append(len(files))
        compared.append(language)
        here.update(own)
        there.update(reference)
    if not weights:
        return {**_row(name, None, None, WITHIN_THRESHOLDS[name], []), "languages": []}
    divergence, floor = (sum(a * b for a, b in zip(values, weights, strict=True)) / sum(weights) for values in (divergences, floors))
    return {**_row(name, divergence, floor, WITHIN_THRESHOLDS[name], _differing(here, there)), "languages": compared}


def _cut(document: Document, like: str) -> Document:
    """``document`` as long as another's text: a short text has fewer different words."""
    return {**document, "text": document["text"][: len(like)]}


def _lumped(counts: Counter[str], frequent: set[str]) -> Counter[str]:
    """The rare items as one: most of them stand in one file only, on whichever side it is."""
    found = Counter({item: count for item, count in counts.items() if item in frequent})
    found[_REST] = counts.total() - found.total()
    return found


def _count(files: Sequence[Document], features: Features) -> Counter[str]:
    found: Counter[str] = Counter()
    for document in files:
        found.update(features(document))
    return found


def _differing(one: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """The items whose shares differ most: [item, share in one, share in the other]."""
    total, total_other = sum(one.values()) or 1, sum(other.values()) or 1
    shares = [(key, one.get(key, 0) / total, other.get(key, 0) / total_other) for key in one.keys() | other.keys()]
    return [(key, round(p, 6), round(q, 6)) for key, p, q in sorted(shares, key=lambda item: (-abs(item[1] - item[2]), item[0]))[:_SHOWN]]


def _row(name: str, divergence: float | None, floor: float | None, threshold: float, most: list[tuple[str, float, float]]) -> dict[str, Any]:
    beyond = divergence - floor if divergence is not None and floor is not None else None
    return {
        "name": name,
        "divergence": None if divergence is None else round(divergence, 6),
        "floor": None if floor is None else round(floor, 6),
        "threshold": threshold,
        "alarm": beyond is not None and beyond > threshold,
        "most": most,
    }
