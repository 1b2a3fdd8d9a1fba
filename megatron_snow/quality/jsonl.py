"""Rows of a jsonl file of positives, plain or compressed, streamed."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.settings import JsonlPositives


def _lines(source: JsonlPositives) -> Iterator[bytes]:
    path = Path(source.path)
    if not path.is_file():
        raise SnowError(f"the file of positives {source.path} does not exist; name yours under annotate.positives, or use another kind of source")
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.open(stream))  # type: ignore[arg-type]
        elif path.suffix == ".zst":
            stream = io.BufferedReader(stack.enter_context(zstandard.ZstdDecompressor().stream_reader(stream)), 2**20)
        try:
            yield from stream
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise SnowError(
                f"the file of positives {source.path} cannot be read ({error}); is it whole, and its suffix right (.jsonl, .jsonl.gz, .jsonl.zst)?"
            ) from error


def _name(index: int, number: int) -> str:
    return f"positives[{index}]:{number}"


def row_names(source: JsonlPositives, index: int) -> Iterator[str]:
    """A name for each row, ``positives[<source index>]:<line number>``, without parsing. Raises SnowError where the file is missing."""
    for number, line in enumerate(_lines(source), start=1):
        if line.strip():
            yield _name(index, number)


def rows(source: JsonlPositives, index: int, wanted: frozenset[str]) -> Iterator[tuple[str, str, str, str]]:
    """(name, text, repository, language) of the wanted rows. Raises SnowError where a row is not JSON or lacks a column."""
    for number, line in enumerate(_lines(source), start=1):
        name = _name(index, number)
        if name not in wanted:
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SnowError(f"{source.path}, line {number}: not JSON ({error})") from error
        named = [column for column in (*source.columns, source.repository, source.language) if column is not None]
        broken = [column for column in named if not isinstance(row, dict) or not isinstance(row.get(column), str)]
        if broken:
            has = f"it has {', '.join(sorted(row))}" if isinstance(row, dict) else "it is not an object"
            raise SnowError(f"{source.path}, line {number}: no text in column {broken[0]!r} ({has}); name the columns in annotate.positives[{index}].columns")
        text = "\n\n".join(row[column] for column in source.columns)
        yield name, text, row[source.repository] if source.repository else name, row[source.language] if source.language else "unknown"
