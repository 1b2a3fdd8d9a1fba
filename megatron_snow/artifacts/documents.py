"""A tier on disk: zstd-compressed JSON lines, one source file a row, in shards ``00000.jsonl.zst``, ``00001.jsonl.zst``, ...

Row order is part of the artefact: the standard tier is sorted by (language, repository) with the files of a
repository in seeded random order, so that a training document (one (language, repository) group, paper section 2.2)
is a run of consecutive rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError

SHARD_BYTES = 256 * 2**20  # uncompressed; ours: tasks of a minute or so for an engine that is parallel by file
_LEVEL = 3  # zstd's default


class Document(TypedDict):
    """One source file (or one synthetic file)."""

    id: str
    """Stable name, unique in a corpus: ``source/repository/path``, or ``synthetic/<hash>``."""
    text: str
    language: str
    """Linguist's name: ``Python``, ``C++``, ``Jupyter Notebook``, ..."""
    repository: str
    path: str
    license: str
    """SPDX expression, or ``""`` where none is stated."""
    source: str
    """Where the repository came from: ``stdlib``, ``distributions``, or the name of a folder source."""
    score: NotRequired[float]
    """High-quality tier only: the annotator's score."""
    tokens: NotRequired[int]
    """Where counted: length of ``text`` in the recipe's tokenizer."""
    seed_id: NotRequired[str]
    """Synthetic tier only: the ``id`` of the high-quality document that seeded it."""


def shards(tier: Path) -> list[Path]:
    """The shards of a tier in row order. Raises SnowError where there is none."""
    found = sorted(tier.glob("*.jsonl.zst"))
    if not found:
        raise SnowError(f"no documents: {tier} holds no *.jsonl.zst shard; run the arrow that writes it first")
    return found


def damaged_shard(what: str) -> SnowError:
    """The error of a shard that cannot be read; ``what`` names it and the line, from 1."""
    return SnowError(f"{what}; the shard is damaged: delete its folder and run the arrow again")


def read_shard(path: Path) -> Iterator[Document]:
    """Stream the rows of one shard. Raises SnowError where the shard is cut short or damaged, naming the line where a row is broken."""
    number, rest = 0, b""
    stream = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as raw:
        while chunk := raw.read(2**15):
            try:
                *lines, rest = (rest + stream.decompress(chunk)).split(b"\n")
            except zstandard.ZstdError as error:
                raise damaged_shard(f"{path}, after line {number}: {error}") from error
            for line in lines:
                number += 1
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise damaged_shard(f"{path}, line {number}: not JSON ({error})") from error
    # A reader of the stream would take a file cut short for one that ends there.
    if rest or not stream.eof:
        raise damaged_shard(f"{path} ends in the middle, after line {number}")


def read_documents(tier: Path) -> Iterator[Document]:
    """Stream every row of a tier, in row order."""
    for shard in shards(tier):
        yield from read_shard(shard)


def write_shard(path: Path, documents: Iterable[Document]) -> None:
    """Write rows into one shard; it appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as raw, zstandard.ZstdCompressor(level=_LEVEL).stream_writer(raw) as out:
        for row in documents:
            out.write(orjson.dumps(row) + b"\n")
    os.replace(part, path)


def write_documents(tier: Path, documents: Iterable[Document], shard_bytes: int = SHARD_BYTES) -> int:
    """Write rows into numbered shards below ``tier`` (made if missing); returns how many. Always writes one shard at least."""
    tier.mkdir(parents=True, exist_ok=True)
    rows = iter(documents)
    total, index, row = 0, 0, next(rows, None)
    while row is not None or index == 0:
        written = 0
        with (tier / f"{index:05d}.jsonl.zst").open("wb") as raw, zstandard.ZstdCompressor(level=_LEVEL).stream_writer(raw) as out:
            while row is not None and written < shard_bytes:
                line = orjson.dumps(row) + b"\n"
                out.write(line)
                written += len(line)
                total += 1
                row = next(rows, None)
        index += 1
    return total
