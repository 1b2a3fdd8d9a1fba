"""One look at a tier: a small reproducible sample of its files, and its sizes by language and repository as far as it was read.

Rows are sorted by language and repository: what a tier is in all its parts shows in many places, not in much text of few.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_shard, shards

MOST_SHARDS = 64  # evenly spaced, of which the beginnings are read (ours: a language with a sixtieth of the bytes is met)
MOST_BYTES = 2**30  # of text in all (ours: some ten seconds on one core; a tier of no more is read whole)
PER_LANGUAGE = 200  # files of each language at most (ours: with more the distributions' floors hardly fall)

Sample = dict[str, list[Document]]
"""Language -> files, in the order of a hash of their id."""


@dataclass
class Survey:
    """What was seen of a tier."""

    files: Sample = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    """Bytes."""
    repositories: Counter[str] = field(default_factory=Counter)
    """Bytes."""


def survey(tier: Path, per_language: int = PER_LANGUAGE, most_bytes: int = MOST_BYTES) -> Survey:
    """Look at ``MOST_SHARDS`` places, ``most_bytes`` of text in all. Memory is the sample. Raises SnowError where the tier is missing or damaged."""
    every = shards(tier)
    count = min(MOST_SHARDS, len(every))
    found = Survey()
    kept: dict[str, list[tuple[int, str, Document]]] = {}  # heaps: the last of the order on top
    for index in range(count):
        room = most_bytes // count
        for document in read_shard(every[(2 * index + 1) * len(every) // (2 * count)]):
            if room <= 0:
                break
            size = len(document["text"].encode(errors="replace"))
            room -= size
            found.languages[document["language"]] += size
            found.repositories[document["repository"]] += size
            rank = int.from_bytes(hashlib.sha256(document["id"].encode(errors="replace")).digest()[:8], "big")
            heap = kept.setdefault(document["language"], [])
            entry = (-rank, document["id"], document)
            if len(heap) < per_language:
                heapq.heappush(heap, entry)
            elif entry[:2] > heap[0][:2]:
                heapq.heapreplace(heap, entry)
    found.files = {language: [document for *_, document in sorted(kept[language], key=lambda one: (-one[0], one[1]))] for language in sorted(kept)}
    return found
