"""Rows of text from files: JSON lines (plain, .gz, .zst) and Parquet, one row in memory at a time.

Every row comes with the offset at which reading can go on behind it: a byte for plain JSON lines, a row for the rest
(a compressed stream has to be decompressed up to there, which costs little beside tokenizing).
"""

from __future__ import annotations

import glob
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import file_sha256

LONGEST_LINE = 2**30  # bytes (ours: a longer line is not JSON lines but one big JSON file, and would fill the memory)
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_PARQUET_ROWS = 256  # rows turned into Python objects together (ours: some MB of code)


@dataclass(frozen=True)
class Row:
    """One row: for each asked key its text, or its sentences where the value is a list."""

    values: list[list[str]]
    after: int
    """Offset of the row behind it."""


def expand(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and globs name, each pattern's sorted, none twice. Raises SnowError where a pattern names none."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise SnowError(f"--input {pattern}: no such file; give a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file, or a glob in quotes")
        found.update(dict.fromkeys(files))
    return list(found)


def check_sums(files: Sequence[Path]) -> int:
    """Compare every file that has ``<file>.sha256`` beside it (as ``sha256sum`` writes it) with that; how many had one.

    Raises SnowError naming the first that does not match.
    """
    found = 0
    for path in files:
        sidecar = path.with_name(path.name + ".sha256")
        if not sidecar.is_file():
            continue
        words = sidecar.read_bytes().decode("ascii", "replace").split()
        if len(words) != 2 or Path(words[1].lstrip("*")).name != path.name:
            raise SnowError(f"{sidecar} is not one line of sha256sum for {path.name}; make it again, or delete it to read the file unchecked")
        if words[0] != file_sha256(path):
            raise SnowError(f"{path} does not match {sidecar.name}: it was changed or damaged after that was written; fetch it again")
        found += 1
    return found


def read_rows(path: Path, keys: Sequence[str], start: int = 0) -> Iterator[Row]:
    """The rows of one file from offset ``start`` on.

    Raises SnowError naming file and line where a row is not JSON, lacks a key, holds no text there or the file is cut short.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path, keys, start)
        return
    seekable = path.suffix not in _COMPRESSIONS
    offset = number = 0
    with _open(path) as stream:
        if seekable:
            stream.seek(start)
            offset = start
        for line in _lines(path, stream):
            number += 1
            offset += len(line) if seekable else 1
            if offset > start:
                yield Row(_parse(line, keys, path, f"line {number}{f' behind byte {start}' if seekable and start else ''}"), offset)


def _open(path: Path) -> BinaryIO:
    try:
        if path.suffix not in _COMPRESSIONS:
            return path.open("rb", 2**20)  # every read lets the encoding threads at the lock: read much at a time
        import pyarrow  # its streams notice a file that was cut short; zstandard's do not

        return io.BufferedReader(pyarrow.input_stream(str(path), compression=_COMPRESSIONS[path.suffix]), 2**20)
    except OSError as error:
        raise SnowError(f"cannot read {path}: {error.strerror or error}") from error


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            line = stream.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise SnowError(f"{path} is damaged or cut short: {error}; fetch it again") from error
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise SnowError(f"{path} has a line of more than {LONGEST_LINE} bytes: it must hold one JSON object a line")
        yield line


def _parse(line: bytes, keys: Sequence[str], path: Path, where: str) -> list[list[str]]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = _parse_leniently(line, path, where)
    if not isinstance(row, dict):
        raise SnowError(f"{path}, {where}: a JSON object is needed, this is {type(row).__name__}")
    return [_texts(row.get(key), key, row, path, where) for key in keys]


def _parse_leniently(line: bytes, path: Path, where: str) -> Any:
    """What Python writes and strict JSON forbids, NaN for one."""
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise SnowError(f"{path}, {where}: it holds half a surrogate pair (\\ud800 to \\udfff alone), which is no text; repair the file") from error
    except ValueError as error:
        raise SnowError(f"{path}, {where}: not JSON ({error}); there must be one object a line and no empty line") from error
    return row


def _texts(value: Any, key: str, row: dict[str, Any], path: Path, where: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(sentence, str) for sentence in value):
        return cast(list[str], value)
    if key not in row:
        raise SnowError(f"{path}, {where}: no key {key!r}; it has {', '.join(map(repr, row))}; name the text's key with --json-keys")
    raise SnowError(f"{path}, {where}: {key!r} is {type(value).__name__}, not a text or a list of texts")


def _read_parquet(path: Path, keys: Sequence[str], start: int) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            if missing := [key for key in keys if key not in file.schema_arrow.names]:
                raise SnowError(
                    f"{path}: no column {missing[0]!r}; it has {', '.join(map(repr, file.schema_arrow.names))}; name the text's column with --json-keys"
                )
            offset = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if offset + rows > start:
                    yield from _read_group(file, group, keys, path, offset, start)
                offset += rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SnowError(f"{path} is not a whole Parquet file: {str(error).splitlines()[0]}; fetch it again") from error


def _read_group(file: Any, group: int, keys: Sequence[str], path: Path, offset: int, start: int) -> Iterator[Row]:
    for batch in file.iter_batches(batch_size=_PARQUET_ROWS, row_groups=[group], columns=list(keys)):
        for row in batch.to_pylist():
            offset += 1
            if offset > start:
                yield Row([_texts(row[key], key, row, path, f"row {offset}") for key in keys], offset)
