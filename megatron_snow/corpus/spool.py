"""Filtered documents between the stages of the corpus arrow: texts that can be read one by one, and an index that fits in memory.

A text is a zstd frame of its own in the task's spool file; its ``Entry`` says where. The last stage reads texts in
output order by random access, so nothing but the index is ever held or sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import orjson
import zstandard

from megatron_snow.artifacts.publish import write_atomically

_LEVEL = 1  # lives for minutes: speed over size (ours)


@dataclass(frozen=True, slots=True)
class Entry:
    """A filtered document without its text."""

    id: str
    language: str
    repository: str
    path: str
    license: str
    source: str
    stars: int | None
    size: int
    """Bytes of the text in UTF-8."""
    digest: str
    """blake2b of the text, 128 bits."""
    task: int
    offset: int
    length: int


class SpoolWriter:
    """Appends texts to a spool file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._offset = 0

    def add(self, content: bytes) -> tuple[int, int]:
        """Write one text; returns its (offset, length) in the file."""
        frame = self._compressor.compress(content)
        self._file.write(frame)
        place = (self._offset, len(frame))
        self._offset += len(frame)
        return place


class SpoolReader:
    """Reads texts of all tasks' spool files by entry."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        self._decompressor = zstandard.ZstdDecompressor()

    def text(self, entry: Entry) -> str:
        """The text of an entry."""
        file = self._files[entry.task]
        file.seek(entry.offset)
        return self._decompressor.decompress(file.read(entry.length)).decode()

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            file.close()


def write_index(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries of one task, one JSON line each."""
    write_atomically(path, b"".join(orjson.dumps(asdict(entry)) + b"\n" for entry in entries))


def read_index(path: Path) -> list[Entry]:
    """The entries of one task, in the order they were written."""
    return [Entry(**orjson.loads(line)) for line in path.read_bytes().splitlines()]
