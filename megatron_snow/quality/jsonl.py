"""Rows of a jsonl file of positives, plain or compressed, streamed."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.settings import JsonRows, LabelRows


def _lines(source: JsonRows) -> Iterator[bytes]:
    path = Path(source.path)
    if not path.is_file():
        raise SnowError(f"the file {source.path} does not exist; name yours under annotate.positives or annotate.labels")
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.open(stream))  # type: ignore[arg-type]
        elif path.suffix == ".zst":
            stream = io.BufferedReader(stack.enter_context(zstandard.ZstdDecompressor().stream_reader(stream)), 2**20)
        try:
            yield from stream
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise SnowError(f"the file {source.path} cannot be read ({error}); is it whole, and its suffix right (.jsonl, .jsonl.gz, .jsonl.zst)?") from error


def _name(index: int, number: int) -> str:
    return f"positives[{index}]:{number}" if index >= 0 else f"labels:{number}"


def row_names(source: JsonRows, index: int) -> Iterator[str]:
    """A name for each row, ``positives[<source index>]:<line number>``, without parsing. Raises SnowError where the file is missing."""
    for number, line in enumerate(_lines(source), start=1):
        if line.strip():
            yield _name(index, number)


def rows(source: JsonRows, index: int, wanted: frozenset[str]) -> Iterator[tuple[str, str, str, str, float]]:
    """(name, text, repository, language, label) of the wanted rows; the label brought to [0, 1], and 1 for positives.

    Raises SnowError where a row is not JSON, lacks a column, or has a label that is no number of the scale.
    """
    field = f"annotate.positives[{index}]" if index >= 0 else "annotate.labels"
    for number, line in enumerate(_lines(source), start=1):
        name = _name(index, number)
        if name not in wanted:
            continue
        where = f"{source.path}, line {number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SnowError(f"{where}: not JSON ({error})") from error
        named = [column for column in (*source.columns, source.repository, source.language) if column is not None]
        broken = [column for column in named if not isinstance(row, dict) or not isinstance(row.get(column), str)]
        if broken:
            has = f"it has {', '.join(sorted(row))}" if isinstance(row, dict) else "it is not an object"
            raise SnowError(f"{where}: no text in column {broken[0]!r} ({has}); name the columns in {field}.columns")
        text = "\n\n".join(row[column] for column in source.columns)
        label = _label(row, source, where) if isinstance(source, LabelRows) else 1.0
        yield name, text, row[source.repository] if source.repository else name, row[source.language] if source.language else "unknown", label


def _label(row: dict[str, Any], source: LabelRows, where: str) -> float:
    low, high = source.scale
    value = row.get(source.label)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SnowError(f"{where}: column {source.label!r} holds {value!r}, not a number from {low:g} to {high:g}; see annotate.labels.label and .scale")
    return (value - low) / (high - low)
