"""Folders of rows: .jsonl, .jsonl.gz, .jsonl.zst and .parquet under The Stack's column names, streamed.

A row that cannot be used is yielded as a ``Broken`` with its reason, never raised: one bad row among billions must cost
one row. What no row could mend (no file, no such column) is a ``SnowError`` before anything runs.
"""

from __future__ import annotations

import datetime
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.settings import FolderSource
from megatron_snow.corpus.streams import ZstdStream
from megatron_snow.corpus.walking import files_below

COLUMNS = {  # The Stack v1 (max_stars_repo_*), The Stack v2, StarCoderData and plain names, in this order of preference
    "text": ("content", "text"),
    "path": ("max_stars_repo_path", "path"),
    "repository": ("max_stars_repo_name", "repository_name", "repo_name", "repository"),
    "license": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license"),
    "stars": ("max_stars_count", "star_events_count", "stars"),
    "forks": ("max_forks_count", "fork_events_count", "forks"),
    "updated": ("committer_date", "revision_date", "visit_date", "max_stars_repo_stars_event_max_datetime", "updated"),
}
REQUIRED = ("text", "path", "repository")
_FIRST_ROW = 2**30  # bytes searched for the first whole row (ours: far above any source file)
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row."""

    text: str
    path: str
    repository: str
    license: str
    stars: int | None
    forks: int | None = None
    updated: str | None = None
    """When it was last revised: ISO 8601 in UTC."""


def folder_files(source: FolderSource) -> tuple[list[Path], dict[str, int]]:
    """The readable files of a source, sorted, and the links not followed (``walking.files_below``). Raises SnowError where there is none."""
    if not source.path.exists():
        raise SnowError(f"corpus source {source.name}: {source.path} does not exist; mend 'path'")
    below, skipped = files_below(source.path)
    files = [path for path in below if path.name.endswith(SUFFIXES)]
    if not files:
        raise SnowError(f"corpus source {source.name}: {source.path} holds no {', '.join(SUFFIXES)} file; mend 'path'")
    return files, skipped


def check_columns(source: FolderSource, file: Path) -> bool:
    """Whether a file holds rows: an empty shard holds none, and is passed over.

    Raises SnowError where the file cannot be read at all or lacks a column that is needed.
    """
    if file.name.endswith(".parquet"):
        from megatron_snow.corpus.parquet import column_names  # pyarrow loads where it is needed: this module is imported by every command

        names = column_names(file)
    else:
        seen = False
        names = set()
        try:
            for row in _json_rows(file, _FIRST_ROW):
                seen = True
                if isinstance(row, dict):
                    names = set(row)
                    break
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise SnowError(f"corpus source {source.name}: {file} cannot be read ({error}); remove or fetch it again") from error
        if not seen:
            return False
    for field in REQUIRED:
        if names.isdisjoint(COLUMNS[field]):
            found = ", ".join(sorted(names)) or "no row with columns"
            if field == "text" and "blob_id" in names:
                raise SnowError(
                    f"corpus source {source.name}: {file} names its files by blob_id and does not hold them, as The Stack v2 is published; "
                    "fetch the contents (Software Heritage has them by that id) and add them as a column 'content'"
                )
            raise SnowError(f"corpus source {source.name}: {file} has no column for the {field} ({' or '.join(COLUMNS[field])}); it has {found}")
    return True


def row_groups(file: Path) -> list[tuple[int | None, int]]:
    """(row group, bytes) of the parts a file can be read in: a parquet's row groups, else the whole file as ``None``."""
    if not file.name.endswith(".parquet"):
        return [(None, file.stat().st_size)]
    from megatron_snow.corpus.parquet import group_sizes

    return list(enumerate(group_sizes(file)))


def read_rows(file: Path, group: int | None, max_bytes: int) -> Iterator[Row | Broken]:
    """Stream the rows of one part of a file; every row of it yields one item, in order."""
    for raw in raw_rows(file, group, 8 * max_bytes + 2**16):
        yield raw if isinstance(raw, Broken) else _row(raw)


def raw_rows(file: Path, group: int | None, longest: int) -> Iterator[Any]:
    """The rows of one part of a file as they are, of parquet ``COLUMNS`` only; ``longest``: bytes of a line of JSON or of a value of parquet."""
    if group is not None:
        from megatron_snow.corpus.parquet import parquet_rows

        yield from parquet_rows(file, group, [name for names in COLUMNS.values() for name in names], longest)
        return
    try:
        yield from _json_rows(file, longest)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, ValueError) as error:
        yield Broken("damaged file", f"{file}: {error}")


def _row(raw: Any) -> Row | Broken:
    if not isinstance(raw, dict):
        return Broken("malformed row", repr(raw))
    values: dict[str, Any] = {field: next((raw[name] for name in names if raw.get(name) is not None), None) for field, names in COLUMNS.items()}
    try:
        values = {field: _decoded(value) for field, value in values.items()}
    except UnicodeDecodeError as error:
        return Broken("not UTF-8", str(error))
    for field in REQUIRED:
        if not isinstance(values[field], str):
            return Broken("malformed row", f"{field} is {values[field]!r:.80}")
    licenses = values["license"] or []
    stated = [licenses] if isinstance(licenses, str) else [str(item) for item in licenses]
    license_ = " AND ".join(sorted(set(stated)))
    return Row(values["text"], values["path"], values["repository"], license_, _count(values["stars"]), _count(values["forks"]), _time(values["updated"]))


def _decoded(value: Any) -> Any:
    """Bytes as text, in a list too. Raises UnicodeDecodeError."""
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**53 else None  # neither NaN nor infinite nor no count at all


def _time(value: Any) -> str | None:
    """A time as ISO 8601 in UTC, so that the order of texts is that of times; None for what is none. A time without zone is taken as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    return zoned.astimezone(datetime.UTC).isoformat(timespec="seconds")


def _open(file: Path) -> IO[bytes] | gzip.GzipFile:
    if file.name.endswith(".gz"):
        return gzip.open(file, "rb")
    raw = file.open("rb")
    if file.name.endswith(".zst"):
        return io.BufferedReader(ZstdStream(raw), 2**20)
    return raw


def _json_rows(file: Path, longest: int) -> Iterator[Any]:
    """The parsed lines; a line over ``longest`` bytes is skipped without being held in memory."""
    with _open(file) as stream:
        while line := stream.readline(longest):
            if len(line) == longest and not line.endswith(b"\n"):
                while (rest := stream.readline(2**20)) and not rest.endswith(b"\n"):
                    pass
                yield Broken("too large", f"{file}: a line over {longest} bytes")
                continue
            if not line.strip():
                continue
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Broken("malformed row", f"{error}: {line[:120]!r}")


def folder_fingerprint(source: FolderSource) -> str:
    """Changes with the files' names, sizes and times of change."""
    root = source.path if source.path.is_dir() else source.path.parent
    return digest([[p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in folder_files(source)[0]])
