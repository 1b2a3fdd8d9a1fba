"""Files to training documents: which files stand in one document, and which text is written for them.

The standard tier is sorted by language, then repository, so the paper's documents (section 2.2) are runs of rows and
nothing is held but one document. Grouping by repository alone has to gather a repository's languages first
(``gather_repositories``: a pass that spreads rows over files by the hash of their repository, then sorts each).
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import zstandard

from megatron_snow.artifacts.documents import SHARD_BYTES, Document, read_documents, read_shard, shards, write_documents
from megatron_snow.artifacts.progress import track
from megatron_snow.artifacts.settings import Settings
from megatron_snow.tokens.settings import Grouping, TierFormat

_EXPANSION = 6  # uncompressed over compressed size of code (ours, measured 5 to 6): only sizes the spread
_MOST_SPREAD = 200  # files open at once (ours: stays below the usual limit of 1,024)


class Position(Settings):
    """A row of a tier."""

    shard: int = 0
    row: int = 0


@dataclass(frozen=True)
class TrainingDocument:
    """Files that stand in one document, in order."""

    files: list[Document]
    with_metadata: bool
    """Whether repository and paths are named."""
    after: Position | None
    """The row after its last; None at the end of the tier."""

    @property
    def language(self) -> str:
        """The language most of its text is in."""
        sizes: Counter[str] = Counter()
        for file in self.files:
            sizes[file["language"]] += len(file["text"])
        return min(sizes, key=lambda language: (-sizes[language], language))

    def pieces(self) -> list[str]:
        """What is encoded: the repository's name where it is named, then each file, behind its path where that is."""
        if not self.with_metadata:
            return [file["text"] for file in self.files]
        return [self.files[0]["repository"], *(f"{file['path']}\n{file['text']}" for file in self.files)]


def training_documents(tier: Path, form: TierFormat, limit: int, seed: int, start: Position) -> Iterator[TrainingDocument]:
    """The training documents of a tier from the row ``start`` on, where a document must begin.

    A document holds files of one group, and at most ``limit`` bytes of text unless a single file has more.
    """
    files: list[Document] = []
    held, key = 0, ""
    for position, row in _rows(tier, start):
        size = len(row["text"].encode())
        row_key = _key(row, form.grouping)
        if files and (row_key != key or held + size > limit):
            yield TrainingDocument(files, _chance(seed, key) < form.repository_metadata, position)
            files, held = [], 0
        files.append(row)
        held += size
        key = row_key
    if files:
        yield TrainingDocument(files, _chance(seed, key) < form.repository_metadata, None)


def _rows(tier: Path, start: Position) -> Iterator[tuple[Position, Document]]:
    for number, shard in enumerate(shards(tier)[start.shard :], start=start.shard):
        for row, document in enumerate(read_shard(shard)):
            if number > start.shard or row >= start.row:
                yield Position(shard=number, row=row), document


def _key(row: Document, grouping: Grouping) -> str:
    if grouping == "file":
        return row["id"]
    return f"{row['language']}\0{row['repository']}" if grouping == "language_repository" else row["repository"]


def _chance(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the group: not on shards, tiers or order."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=6).digest(), "big") / 2**48


def gather_repositories(tier: Path, target: Path, seed: int) -> None:
    """Write the rows of ``tier`` into the tier ``target`` so that a repository's rows are consecutive.

    Repositories come in the order of their hash, the files of one in a random order that depends on ``seed`` and their ids.
    Memory: one of the files it spreads the rows over, about 256 MiB.
    """
    sources = shards(tier)
    count = min(_MOST_SPREAD, max(1, sum(path.stat().st_size for path in sources) * _EXPANSION // SHARD_BYTES))
    target.mkdir(parents=True, exist_ok=True)
    spread = [target / f"{i:05d}.spread" for i in range(count)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in spread]
        outs = [stack.enter_context(zstandard.ZstdCompressor(level=1).stream_writer(file)) for file in files]
        for document in track(read_documents(tier), f"gathering repositories of {tier.name}", unit="files"):
            outs[_hash(document["repository"]) % count].write(orjson.dumps(document) + b"\n")

    def gathered() -> Iterator[Document]:
        for path in spread:
            rows = list(_read_lines(path))
            rows.sort(key=lambda row: (_hash(row["repository"]), row["repository"], _hash(f"{seed}\0{row['id']}")))
            yield from rows
            path.unlink()

    write_documents(target, gathered())


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        for line in io.BufferedReader(stream, 2**20):
            yield orjson.loads(line)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
