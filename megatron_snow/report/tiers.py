"""Reads the tiers themselves: how long files are, in which languages, under which licences, how much of them is comment and
how much they repeat themselves and each other, and a few to look at.

Tiers can be terabytes and a report is made in seconds, so at most ``MOST_BYTES`` of text of each are read, from the beginnings of
``MOST_SHARDS`` shards evenly spaced over the tier (rows are sorted by language and repository). What was read is said beside the
numbers; where a tier has no more than that, they are exact, but for comments, which are looked for in ``PARSED_FILES`` of the
files read.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from megatron_snow.artifacts.documents import Document, read_documents, read_shard, shards
from megatron_snow.report.comments import comment_bytes
from megatron_snow.report.sketch import Sketch, line_hashes, text_hash

MOST_BYTES = 128 * 2**20  # of a tier's text (ours: some eight seconds on one core)
MOST_SHARDS = 16  # that they come from (ours: a 400 GB tier's shards hold about one language in sixteen)
SHOWN_FILES = 3  # of each tier (ours)
PARSED_FILES = 300  # of each tier (ours: a second or two; a share of a fifth is known to some 2 %)
PARSED_CHARACTERS = 50_000  # the beginning of a longer file stands for it (ours: bounds the memory to 15 MB)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass
class Profile:
    """What a tier looks like."""

    shards_read: int
    shards_all: int
    cut: bool = False
    """Whether some of the shards were not read to their ends."""
    files: int = 0
    bytes: int = 0
    repositories: set[str] = field(default_factory=set)
    language_bytes: Counter[str] = field(default_factory=Counter)
    license_files: Counter[str] = field(default_factory=Counter)
    lines: array[int] = field(default_factory=lambda: array("q"))
    """Of each file."""
    line_sketch: Sketch = field(default_factory=Sketch)
    """Lines of code, once a file."""
    file_sketch: Sketch = field(default_factory=Sketch)
    """Whole files, white space left out."""
    parsed_bytes: int = 0
    """Of the sampled files whose language has a grammar here."""
    comment_bytes: int = 0
    """Of those, in comments and docstrings."""
    parsed_files: int = 0
    shown: list[Document] = field(default_factory=list)
    """Files in the order of the hash of their id: a sample that does not depend on row order."""

    @property
    def sampled(self) -> bool:
        """Whether a part of the tier was left out."""
        return self.cut or self.shards_read < self.shards_all

    @property
    def median_lines(self) -> float | None:
        """Lines of the middle file."""
        return float(np.median(self.lines)) if self.lines else None

    @property
    def comment_share(self) -> float | None:
        """Share of the bytes in comments; None where no file has a grammar."""
        return self.comment_bytes / self.parsed_bytes if self.parsed_bytes else None

    def line_quantiles(self) -> Sequence[float]:
        """Lines of a file at ``QUANTILES``; empty where there is no file."""
        return np.quantile(self.lines, QUANTILES).tolist() if self.lines else []

    def cumulative_lines(self, most: int = 60) -> list[tuple[float, float]]:
        """(lines, share of files with at most so many), at ``most`` + 1 evenly spaced shares at most."""
        ordered = np.sort(np.asarray(self.lines))
        ranks = np.unique(np.linspace(0, len(ordered) - 1, min(most + 1, len(ordered))).astype(int)) if len(ordered) else ()
        return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


def profile(tier: Path, most_bytes: int = MOST_BYTES) -> Profile:
    """Read a tier, or about ``most_bytes`` of its text. Raises SnowError where it has no shard or one is damaged."""
    chosen = _chosen(tier)
    found = Profile(len(chosen), len(shards(tier)))
    sample = _Smallest(PARSED_FILES)
    for shard in chosen:
        stop = found.bytes + most_bytes // len(chosen)
        for document in read_shard(shard):
            if found.bytes >= stop:
                found.cut = True
                break
            _count(found, document)
            sample.offer(document)
    ordered = sample.ordered()
    for document in ordered:
        _parse(found, document)
    found.shown = ordered[:SHOWN_FILES]
    return found


def find(tier: Path, ids: Collection[str], most_bytes: int = MOST_BYTES) -> dict[str, Document]:
    """The documents of a tier with these ids, as far as they are among the first ``most_bytes`` of its text."""
    found: dict[str, Document] = {}
    read = 0
    for document in read_documents(tier):
        if document["id"] in ids:
            found[document["id"]] = document
        read += len(document["text"])
        if len(found) == len(ids) or read > most_bytes:
            break
    return found


class _Smallest:
    """The documents with the smallest hashes of their ids, cut to ``PARSED_CHARACTERS``: a uniform sample of bounded size."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._heap: list[tuple[int, str, Document]] = []  # the largest hash first: heapq keeps the smallest, so hashes are negative

    def offer(self, document: Document) -> None:
        rank = -int.from_bytes(hashlib.sha256(document["id"].encode(errors="replace")).digest()[:8], "big")
        if len(self._heap) == self.most and rank <= self._heap[0][0]:
            return
        entry = (rank, document["id"], Document(**{**document, "text": document["text"][:PARSED_CHARACTERS]}))
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def ordered(self) -> list[Document]:
        """Smallest hash first."""
        return [document for _, _, document in sorted(self._heap, key=lambda entry: (-entry[0], entry[1]))]


def _chosen(tier: Path) -> list[Path]:
    """At most ``MOST_SHARDS`` shards, evenly spaced."""
    every = shards(tier)
    count = min(MOST_SHARDS, len(every))
    return [every[(2 * index + 1) * len(every) // (2 * count)] for index in range(count)]


def _count(found: Profile, document: Document) -> None:
    data = document["text"].encode(errors="replace")
    found.files += 1
    found.bytes += len(data)
    found.repositories.add(document["repository"])
    found.language_bytes[document["language"]] += len(data)
    found.license_files[document["license"] or "none stated"] += 1
    found.lines.append(data.count(b"\n") + (not data.endswith(b"\n")))
    found.line_sketch.add(line_hashes(data))
    found.file_sketch.add(text_hash(data))


def _parse(found: Profile, document: Document) -> None:
    data = document["text"].encode(errors="replace")
    comments = comment_bytes(document["language"], data)
    if comments is not None:
        found.parsed_files += 1
        found.parsed_bytes += len(data)
        found.comment_bytes += comments
