"""The first stage: what there is, a sample of it where a source is capped, and tasks of about equal size.

Installed files are judged by name and size and are not opened; rows of a folder are read here only where the source is
capped. Tasks depend on what is listed and never on the number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypedDict

import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say, track
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.folder import check_columns, folder_files, read_rows, row_groups
from megatron_snow.corpus.installed import FILES, InstalledFile
from megatron_snow.corpus.language import Names
from megatron_snow.corpus.repositories import ArchiveItem, BlobsItem, list_archives, list_clones
from megatron_snow.corpus.rules import text_of_no_interest
from megatron_snow.corpus.sampling import Candidate, hash_order, sample
from megatron_snow.corpus.settings import ArchivesSource, CorpusSettings, DistributionsSource, FolderSource, GitSource, StdlibSource
from megatron_snow.corpus.walking import DEAD_LINKS, LINKED_FOLDERS

_TASK_BYTES = (2**20, 64 * 2**20)  # ours: small enough to spread 40 MB over cores, large enough to pay for a task's start
_TASKS = 32  # ours: aimed at between those bounds


class FileItem(TypedDict):
    """One file to read."""

    kind: Literal["file"]
    source: str
    repository: str
    path: str
    location: str
    license: str
    hint: str
    """Language by name alone; what is counted where the file cannot be read."""


class RowsItem(TypedDict):
    """Rows of one part of a file to read; ``rows`` None takes all."""

    kind: Literal["rows"]
    source: str
    location: str
    group: int | None
    rows: list[int] | None


Item = FileItem | RowsItem | ArchiveItem | BlobsItem


class Listing(TypedDict):
    """What ``make_listing`` found: number of tasks, bytes to read, and per source what was left out before reading."""

    tasks: int
    bytes: int
    sources: dict[str, dict[str, Any]]


def make_listing(settings: CorpusSettings, seed: int, folder: Path) -> Listing:
    """List all sources into ``folder`` (one file of items a task). A finished listing found there is taken as it is.

    Raises SnowError where a source is missing, unreadable or empty.
    """
    done = folder / "listing.json"
    if done.exists():
        return orjson.loads(done.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    names = Names(settings.languages, settings.excluded_extensions)
    weighted: list[tuple[Item, int]] = []
    sources: dict[str, dict[str, Any]] = {}
    for source in settings.sources:
        if isinstance(source, FolderSource):
            found, sources[source.name] = _folder(source, settings, seed)
        elif isinstance(source, ArchivesSource):
            found, sources[source.name] = list_archives(source, seed, names, settings.max_file_bytes)
        elif isinstance(source, GitSource):
            found, sources[source.name] = list_clones(source, seed, names, settings.max_file_bytes)
        else:
            found, sources[source.name] = _installed(source, settings, seed, names)
        if not found:
            raise SnowError(f"corpus source {source.name} has nothing to read in the wanted languages ({sources[source.name]}); mend it or corpus.languages")
        weighted += found
        for what in (LINKED_FOLDERS, DEAD_LINKS):
            if links := sources[source.name].get(what):
                say(f"  warning: corpus source {source.name}: {links} {what}; put files or folders in their place where they hold code")
    tasks = _tasks(weighted)
    for number, items in enumerate(tasks):
        write_atomically(task_file(folder, number), b"".join(orjson.dumps(item) + b"\n" for item in items))
    listing = Listing(tasks=len(tasks), bytes=sum(size for _, size in weighted), sources=sources)
    write_atomically(done, orjson.dumps(listing))
    return listing


def task_file(folder: Path, task: int) -> Path:
    """Where the items of a task are listed."""
    return folder / f"{task:05d}.jsonl"


def read_task(folder: Path, task: int) -> Iterator[Item]:
    """The items of a task."""
    yield from map(orjson.loads, task_file(folder, task).read_bytes().splitlines())


def _tasks(weighted: Sequence[tuple[Item, int]]) -> list[list[Item]]:
    """Consecutive items in tasks of about equal bytes."""
    limit = min(max(sum(size for _, size in weighted) // _TASKS, _TASK_BYTES[0]), _TASK_BYTES[1])
    tasks: list[list[Item]] = [[]]
    filled = 0
    for item, size in weighted:
        if tasks[-1] and filled + size > limit:
            tasks.append([])
            filled = 0
        tasks[-1].append(item)
        filled += size
    return tasks


def _installed(source: StdlibSource | DistributionsSource, settings: CorpusSettings, seed: int, names: Names) -> tuple[list[tuple[Item, int]], dict[str, Any]]:
    """Files of an installed source: those whose name may be of a wanted language, then the sample."""
    wanted: list[tuple[InstalledFile, str]] = []
    other: Counter[str] = Counter()
    total = too_large = 0
    for file in FILES[source.kind](source):
        total += 1
        guess = names.guess(file.path)
        if guess is None or (guess == "" and not _is_script(file.location)) or text_of_no_interest(file.path, guess):
            other[Path(file.path).suffix or "none"] += 1
        elif file.size > settings.max_file_bytes:
            too_large += 1
        else:
            wanted.append((file, guess))
    taken = range(len(wanted))
    if source.max_bytes is not None:
        candidates = [Candidate(hash_order(seed, f"{f.repository}/{f.path}"), (f.repository, guess), f.size) for f, guess in wanted]
        taken = sample(candidates, source.max_bytes)  # type: ignore[assignment]
    items: list[tuple[Item, int]] = [(_file_item(source.name, *wanted[index]), wanted[index][0].size) for index in taken]
    counts = {
        "files": total, "not code by name": sum(other.values()), "too large": too_large, "not sampled": len(wanted) - len(items), "read": len(items),
        "bytes": sum(f.size for f, _ in wanted), "bytes read": sum(size for _, size in items),
        "extensions not code": dict(other.most_common(12)),
    }  # fmt: skip
    return items, counts


def _file_item(source: str, file: InstalledFile, hint: str) -> FileItem:
    return FileItem(kind="file", source=source, repository=file.repository, path=file.path, location=file.location, license=file.license, hint=hint)


def _is_script(location: str) -> bool:
    try:
        with open(location, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _folder(source: FolderSource, settings: CorpusSettings, seed: int) -> tuple[list[tuple[Item, int]], dict[str, Any]]:
    """Parts of a folder's files, with the sampled rows of each where the source is capped."""
    every, skipped = folder_files(source)
    files = [file for file in every if check_columns(source, file)]
    parts = [(file, group, size) for file in files for group, size in row_groups(file)]
    counts: dict[str, Any] = {"files": len(every), "empty files": len(every) - len(files), "bytes on disk": sum(file.stat().st_size for file in files)}
    counts |= skipped
    if source.max_bytes is None:
        return [(_rows_item(source.name, file, group, None), size) for file, group, size in parts], counts
    names = Names(settings.languages, settings.excluded_extensions)
    candidates: list[Candidate] = []
    places: list[tuple[int, int]] = []
    unusable: Counter[str] = Counter()
    for part, (file, group, _) in enumerate(track(parts, f"listing {source.name}", unit="parts")):
        for number, row in enumerate(read_rows(file, group, settings.max_file_bytes)):
            if isinstance(row, Broken):
                unusable[row.reason] += 1  # the cap chooses among usable rows
                continue
            content = row.text.encode()
            order = hash_order(seed, f"{row.repository}/{row.path}/{blake2b(content, digest_size=8).hexdigest()}")
            candidates.append(Candidate(order, (row.repository, names.guess(row.path)), len(content)))
            places.append((part, number))
    rows: list[list[int]] = [[] for _ in parts]
    sizes = [0] * len(parts)
    for index in sample(candidates, source.max_bytes):
        part, number = places[index]
        rows[part].append(number)
        sizes[part] += candidates[index].size
    items: list[tuple[Item, int]] = [
        (_rows_item(source.name, file, group, rows[part]), sizes[part]) for part, (file, group, _) in enumerate(parts) if rows[part]
    ]
    return items, counts | {"rows": len(candidates), "not sampled": len(candidates) - sum(map(len, rows)), "unusable rows": dict(unusable)}


def _rows_item(source: str, file: Path, group: int | None, rows: list[int] | None) -> RowsItem:
    return RowsItem(kind="rows", source=source, location=str(file), group=group, rows=rows)
