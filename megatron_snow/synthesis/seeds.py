"""Seeds: 1-15 consecutive lines of a high-quality document, one seed a document (Magicoder's OSS-Instruct), best documents first.

Languages are dealt by largest deficit, so that every prefix of the sequence has Python's share and the others' proportions
to within one seed each; a run that stops early has the mix of one that does not. Held in memory: one snippet a document
that can still be asked for (about 0.6 kB), none of the documents.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from megatron_snow.artifacts.documents import Document
from megatron_snow.synthesis.syntax import LANGUAGES, PYTHON

_FEWEST_CHARACTERS = 20  # ours, white space not counted: a lone brace or "pass" suggests no topic
_DRAWS = 16  # ours: a document whose lines are nearly all blank, trivial or too long is given up


@dataclass(frozen=True, slots=True)
class Seed:
    """Consecutive lines of one document."""

    document_id: str
    language: str
    text: str


def cut(document: Document, most_lines: int, most_characters: int, rng: random.Random) -> str | None:
    """Up to ``most_lines`` consecutive whole lines, or None where none of some draws is usable."""
    lines = document["text"].splitlines()
    if not lines:
        return None
    for _ in range(_DRAWS):
        count = rng.randint(1, min(most_lines, len(lines)))
        start = rng.randrange(len(lines) - count + 1)
        text = "\n".join(lines[start : start + count])
        if len(text) <= most_characters and len("".join(text.split())) >= _FEWEST_CHARACTERS:
            return text
    return None


def deal(pools: Mapping[str, Sequence[Seed]], shares: Mapping[str, float]) -> Iterator[Seed]:
    """All seeds, each pool in its order, the pools interleaved by ``shares`` (weights; a pool that runs out leaves its share to the others)."""
    dealt = dict.fromkeys(sorted(pools), 0)
    while left := [name for name in dealt if dealt[name] < len(pools[name])]:
        total = sum(shares[name] for name in left) or 1.0
        step = sum(dealt[name] for name in left) + 1
        name = max(left, key=lambda name: (shares[name] / total * step - dealt[name], shares[name]))
        yield pools[name][dealt[name]]
        dealt[name] += 1


def shares_of(weights: Mapping[str, float], python_share: float) -> dict[str, float]:
    """Python's share as asked, the rest divided by weight. Where there is only Python, or none, all is for what there is."""
    others = sum(weight for name, weight in weights.items() if name != PYTHON)
    python = python_share if PYTHON in weights and others else float(PYTHON in weights)
    return {name: python if name == PYTHON else (1 - python) * weight / others for name, weight in weights.items()}


@dataclass(frozen=True)
class Draw:
    """All seeds in the order in which they are asked, and what was left out."""

    seeds: tuple[Seed, ...]
    skipped: dict[str, int]
    """Documents without a seed, by reason."""


def draw_seeds(documents: Iterable[Document], most_lines: int, most_characters: int, python_share: float, limit: int | None, seed: int) -> Draw:
    """The first ``limit`` seeds (None: all) of a tier. A pure function of its arguments; the documents' order does not matter."""
    pools: dict[str, list[tuple[float, str, Seed]]] = defaultdict(list)
    weights: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for document in documents:
        language = document["language"]
        if language not in LANGUAGES:
            skipped["language without a parser"] += 1
            continue
        text = cut(document, most_lines, most_characters, random.Random(f"{seed}/{document['id']}"))
        if text is None:
            skipped["no usable lines"] += 1
            continue
        weights[language] += len(document["text"])
        entry = (document.get("score", 0.0), document["id"], Seed(document["id"], language, text))
        if limit is None or len(pools[language]) < limit:
            heapq.heappush(pools[language], entry)
        else:
            heapq.heappushpop(pools[language], entry)
    ordered = {language: [entry[2] for entry in sorted(pool, reverse=True)] for language, pool in pools.items()}
    dealt = deal(ordered, shares_of(weights, python_share))
    return Draw(tuple(dealt if limit is None else (one for one, _ in zip(dealt, range(limit), strict=False))), dict(skipped))
