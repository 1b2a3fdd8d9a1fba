"""One look at a tier: sizes by language and repository, and a small reproducible sample of its files, from a bounded number of shards."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_shard, shards

MOST_SHARDS = 4  # evenly spaced; of up to 256 MiB (ours: seconds on one core; rows are sorted by language, so more are better)
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


def survey(tier: Path, per_language: int = PER_LANGUAGE) -> Survey:
    """Look at ``MOST_SHARDS`` shards. Memory is the sample. Raises SnowError where the tier is missing or damaged."""
    every = shards(tier)
    count = min(MOST_SHARDS, len(every))
    found = Survey()
    kept: dict[str, list[tuple[int, str, Document]]] = {}  # heaps: the last of the order on top
    for index in range(count):
        for document in read_shard(every[(2 * index + 1) * len(every) // (2 * count)]):
            size = len(document["text"].encode(errors="replace"))
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
