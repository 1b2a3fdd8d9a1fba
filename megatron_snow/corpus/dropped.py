"""Every document that was dropped, by name: ``dropped.jsonl.zst`` answers "why is this file not in?" for all files, not for examples.

A row: id, reason, language (``unknown`` where it was not told yet), and ``of``, for a duplicate the id of the document that stays for it.
Tasks write their own rows; the arrow puts them together in task order, then the duplicates, without holding them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically

NAME = "dropped.jsonl.zst"


class Dropped(TypedDict):
    """One row."""

    id: str
    reason: str
    language: str
    of: str


def write_dropped(path: Path, rows: Iterable[Dropped]) -> None:
    """Write a file of rows; it appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as raw:
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as out:
            for row in rows:
                out.write(orjson.dumps(row) + b"\n")
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(part, path)


def read_dropped(path: Path, worth: Callable[[bytes], bool] = bool) -> Iterator[Dropped]:
    """Stream the rows; ``worth`` says of a row's JSON whether it need be parsed, for who looks for few among many.

    Raises SnowError where the file is missing or damaged.
    """
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield from (orjson.loads(line) for line in io.BufferedReader(stream, 2**20) if worth(line))
    except FileNotFoundError as error:
        raise SnowError(f"no {path}: what was dropped is not known by name; the corpus was made by an older version, run `snow corpus` again") from error
    except (zstandard.ZstdError, orjson.JSONDecodeError) as error:
        raise SnowError(f"{path} is damaged ({error}); delete its folder and run `snow corpus` again") from error


def joined(parts: Sequence[Path], more: Iterable[Dropped]) -> Iterator[Dropped]:
    """The rows of all parts, then ``more``."""
    for part in parts:
        yield from read_dropped(part)
    yield from more


def sorted_lines(path: Path, parts: Sequence[Path]) -> None:
    """The lines of all parts in one file, sorted, so that it does not depend on how documents are dealt into tasks. Holds them in memory."""
    write_atomically(path, b"".join(sorted(line for part in parts for line in part.read_bytes().splitlines(keepends=True))))
