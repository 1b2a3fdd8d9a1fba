"""Filtered documents between the stages of the corpus arrow: texts that can be read one by one, and an index in columns.

A text is a zstd frame of its own in the task's spool file; a row of the index says where. The index of all tasks is one
Arrow file that is mapped, not loaded (about 250 bytes a document), and so are the MinHash bands beside it (8 bytes a band
and document): what is resident of them are pages of the system's cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow
import pyarrow.ipc
import zstandard

_LEVEL = 1  # lives for minutes: speed over size (ours)
_OPEN = 256  # spool files open at once (ours: a quarter of the usual limit of 1,024 descriptors)
INDEX = pyarrow.schema(  # large strings: a column may pass the 2 GiB that the offsets of plain ones reach
    [
        *((name, pyarrow.large_string()) for name in ("id", "language", "repository", "path", "license", "source")),
        ("stars", pyarrow.int64()),  # null where not known
        ("forks", pyarrow.int64()),
        ("updated", pyarrow.large_string()),  # ISO 8601, so that text order is time order; null where not known
        ("size", pyarrow.int64()),  # bytes of the text in UTF-8
        ("digest", pyarrow.binary(16)),  # blake2b of the text
        ("task", pyarrow.int32()),
        ("offset", pyarrow.int64()),
        ("length", pyarrow.int64()),
    ]
)


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


def spool_file(folder: Path, task: int) -> Path:
    """Where the texts of a task are."""
    return folder / f"{task:05d}.spool"


class SpoolReader:
    """Reads texts of all tasks' spool files by place; keeps the files used last open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[int, int] = OrderedDict()
        self._decompressor = zstandard.ZstdDecompressor()

    def text(self, task: int, offset: int, length: int) -> bytes:
        """The text in a place, in UTF-8."""
        return self._decompressor.decompress(os.pread(self._file(task), length, offset))

    def _file(self, task: int) -> int:
        if task in self._files:
            self._files.move_to_end(task)
            return self._files[task]
        if len(self._files) >= _OPEN:
            os.close(self._files.popitem(last=False)[1])
        self._files[task] = os.open(spool_file(self._folder, task), os.O_RDONLY | os.O_CLOEXEC)
        return self._files[task]

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def write_index(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of ``INDEX``, atomically."""
    write_table(path, [pyarrow.Table.from_pylist(list(rows), schema=INDEX)], INDEX)


def write_table(path: Path, tables: Iterable[pyarrow.Table], schema: pyarrow.Schema) -> None:
    """Write tables one after the other into one Arrow file, atomically."""
    part = path.with_name(path.name + ".part")
    with pyarrow.OSFile(str(part), "wb") as file, pyarrow.ipc.new_file(file, schema) as out:
        for table in tables:
            out.write_table(table)
    os.replace(part, path)


def read_table(path: Path) -> pyarrow.Table:
    """An Arrow file, mapped."""
    with pyarrow.memory_map(str(path)) as file:
        return pyarrow.ipc.open_file(file).read_all()


def write_bands(path: Path, bands: np.ndarray) -> None:
    """Write the MinHash bands of a task's documents, uint64 [documents, bands]: turned, so that a band of all documents is one run of bytes."""
    np.save(path, np.ascontiguousarray(bands.T), allow_pickle=False)


def gather(spool: Path, tasks: int, bands: int) -> tuple[pyarrow.Table, np.ndarray]:
    """The index of all tasks and their MinHash bands, uint64 [bands, documents], in task order: both mapped files."""
    write_table(spool / "index.arrow", (read_table(spool / f"{task:05d}.index.arrow") for task in range(tasks)), INDEX)
    table = read_table(spool / "index.arrow")
    if not len(table):
        return table, np.empty((bands, 0), dtype=np.uint64)
    joined = np.lib.format.open_memmap(spool / "bands.npy", mode="w+", dtype=np.uint64, shape=(bands, len(table)))
    start = 0
    for task in range(tasks):
        part = np.load(spool / f"{task:05d}.bands.npy", allow_pickle=False)
        joined[:, start : start + part.shape[1]] = part
        start += part.shape[1]
    joined.flush()
    del joined
    return table, np.load(spool / "bands.npy", mmap_mode="r", allow_pickle=False)
