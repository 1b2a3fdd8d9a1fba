"""Draws the documents that the diversity report compares, in one pass over each tier and bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_documents, read_shard, shards
from megatron_snow.synthesis.diversity import Sets, sample

_SHARDS = 64  # of the standard tier that are looked into (ours: a tier has thousands; each begins at another place of the order by language)
_ROWS = 4_000  # of each of them, where there are more (ours: a quarter of a million files to draw from, read in a minute)


def gather(synthetic: Path, snippets: Mapping[str, str], high_quality: Path, standard: Path | None, count: int, seed: int) -> Sets:
    """As many synthetic documents, their seeds' files and standard documents, ``count`` at most. ``snippets``: seed document -> its lines."""
    drawn = sample(read_documents(synthetic), count, seed)
    wanted = {row["seed_id"] for row in drawn}
    files = {row["id"]: row for row in read_documents(high_quality) if row["id"] in wanted}
    ordinary = sample(_some_rows(standard, seed), len(drawn), seed) if standard is not None else []
    return Sets(drawn, [snippets[row["seed_id"]] for row in drawn], [files[row["seed_id"]] for row in drawn], ordinary)


def _some_rows(tier: Path, seed: int) -> Iterator[Document]:
    paths = shards(tier)
    if len(paths) <= _SHARDS:
        yield from read_documents(tier)
        return
    for path in sorted(random.Random(f"{seed}/diversity").sample(paths, _SHARDS)):
        yield from islice(read_shard(path), _ROWS)
