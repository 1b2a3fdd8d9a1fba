"""Reads the tiers themselves: how long files are, in which languages, under which licences, and a few to look at.

Tiers can be terabytes and a report is made in seconds, so at most ``MOST_SHARDS`` shards of each are read, evenly spaced
over the tier (rows are sorted by language and repository). What was read is said beside the numbers; where a tier has no more
shards than that, the numbers are exact.
"""

from __future__ import annotations

import hashlib
import heapq
import statistics
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_shard, shards

MOST_SHARDS = 4  # of up to 256 MiB (ours: about five seconds on one core)
SHOWN_FILES = 3  # of each tier (ours)


@dataclass
class Profile:
    """What a tier looks like."""

    shards_read: int
    shards_all: int
    files: int = 0
    bytes: int = 0
    repositories: set[str] = field(default_factory=set)
    language_bytes: Counter[str] = field(default_factory=Counter)
    license_files: Counter[str] = field(default_factory=Counter)
    lines: list[int] = field(default_factory=list)
    shown: list[Document] = field(default_factory=list)
    """Files in the order of the hash of their id: a sample that does not depend on row order."""

    @property
    def sampled(self) -> bool:
        """Whether shards were left out."""
        return self.shards_read < self.shards_all

    @property
    def median_lines(self) -> float | None:
        """Lines of the middle file."""
        return statistics.median(self.lines) if self.lines else None


def profile(tier: Path) -> Profile:
    """Read a tier. Raises SnowError where it has no shard or one is damaged."""
    chosen = _chosen(tier)
    found = Profile(len(chosen), len(shards(tier)))
    smallest: list[tuple[bytes, str, Document]] = []
    for document in _rows(chosen):
        _count(found, document)
        rank = hashlib.sha256(document["id"].encode()).digest()
        smallest.append((rank, document["id"], document))
        if len(smallest) > 64:  # ours: sort now and then instead of for each row
            smallest = heapq.nsmallest(SHOWN_FILES, smallest, key=lambda item: item[:2])
    found.shown = [document for _, _, document in heapq.nsmallest(SHOWN_FILES, smallest, key=lambda item: item[:2])]
    return found


def find(tier: Path, ids: Collection[str]) -> dict[str, Document]:
    """The documents of a tier with these ids, as far as they are in the shards that ``profile`` reads."""
    found: dict[str, Document] = {}
    for document in _rows(_chosen(tier)):
        if document["id"] in ids:
            found[document["id"]] = document
            if len(found) == len(ids):
                break
    return found


def _chosen(tier: Path) -> list[Path]:
    """At most ``MOST_SHARDS`` shards, evenly spaced."""
    every = shards(tier)
    count = min(MOST_SHARDS, len(every))
    return [every[(2 * index + 1) * len(every) // (2 * count)] for index in range(count)]


def _rows(chosen: list[Path]) -> Iterator[Document]:
    for shard in chosen:
        yield from read_shard(shard)


def _count(found: Profile, document: Document) -> None:
    size = len(document["text"].encode(errors="replace"))
    found.files += 1
    found.bytes += size
    found.repositories.add(document["repository"])
    found.language_bytes[document["language"]] += size
    found.license_files[document["license"] or "none stated"] += 1
    found.lines.append(document["text"].count("\n") + (not document["text"].endswith("\n")))
