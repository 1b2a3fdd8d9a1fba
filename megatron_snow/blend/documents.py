"""From a piece of a sample back to the corpus: the rows the tokenize arrow wrote beside each shard, one a document."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.sample import Span

_OPEN_TABLES = 8  # ours: rows of a 512 MiB shard are some tens of MB in memory


class FilePiece(NamedTuple):
    """A run of tokens of one source file inside a sample."""

    id: str
    """The file's name in the corpus: ``source/repository/path``, or ``synthetic/<hash>``."""
    repository: str
    """Empty where the file belongs to none."""
    path: str
    """Within the repository; for a file of none, its id."""
    language: str
    """Of the training document it stands in."""
    first: int
    """First token, counted from where the file begins in its document (its separator and, where named, path included)."""
    tokens: int
    """How many."""


def rows_path(prefix: Path) -> Path:
    """Where the rows of a shard lie."""
    return prefix.with_name(prefix.name + ".documents.jsonl.zst")


def read_rows(prefix: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard in turn: ids, ends, language, repository, metadata. Raises SnowError where they are missing or damaged."""
    for line in row_lines(prefix):
        yield parse_row(prefix, line)


def row_lines(prefix: Path) -> Iterator[bytes]:
    """The rows of a shard as they are written, a JSON line each, for who looks for few among many. Raises SnowError where they are missing or damaged."""
    path = rows_path(prefix)
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield from io.BufferedReader(stream, 2**20)
    except FileNotFoundError as error:
        raise SnowError(f"no {path}: what its documents are made of is not known; only the tokenize arrow writes it") from error
    except zstandard.ZstdError as error:
        raise SnowError(f"{path}: {error}; it is damaged: run the tokenize arrow again") from error


def parse_row(prefix: Path, line: bytes) -> dict[str, Any]:
    """The row that a line of ``row_lines`` is. Raises SnowError where it is none."""
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise SnowError(f"{rows_path(prefix)}: not JSON ({error}); it is damaged: run the tokenize arrow again") from error
    return row


class DocumentTables:
    """The rows of a tokens folder's shards, held for the shards asked for last."""

    def __init__(self, folder: Path) -> None:
        """``folder``: holds a folder per tier."""
        self._folder = folder
        self._tables: OrderedDict[tuple[str, str], list[bytes]] = OrderedDict()

    def row(self, span: Span) -> dict[str, Any]:
        """The row of a piece's document. Raises SnowError where rows are missing or damaged."""
        key, prefix = (span.tier, span.shard), self._folder / span.tier / span.shard
        if key not in self._tables:
            self._tables[key] = list(row_lines(prefix))
            while len(self._tables) > _OPEN_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        lines = self._tables[key]
        if span.document >= len(lines):
            raise SnowError(f"{rows_path(prefix)} has {len(lines)} rows, none for document {span.document}; run the tokenize arrow again")
        return parse_row(prefix, lines[span.document])

    def files(self, span: Span) -> list[FilePiece]:
        """The source files a piece is made of, in order: their tokens add up to the piece's."""
        row = self.row(span)
        starts = [0, *row["ends"][:-1]]
        ends = [*row["ends"][:-1], span.first + span.tokens]  # the end-of-text token counts with the last file
        pieces = []
        for name, start, end in zip(row["ids"], starts, ends, strict=True):
            first, last = max(start, span.first), min(end, span.first + span.tokens)
            if first < last:
                pieces.append(FilePiece(name, row["repository"], _path(name, row["repository"]), row["language"], first - start, last - first))
        return pieces


def _path(name: str, repository: str) -> str:
    if repository and name.startswith(f"{repository}/"):  # synthetic files: their repository is their source
        return name[len(repository) + 1 :]
    _, found, path = name.partition(f"/{repository}/") if repository else ("", "", "")
    return path if found else name
