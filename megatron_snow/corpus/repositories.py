"""Archives and git clones in the listing, and read in a task: what there is of both, under one roof.

Their files are judged by name like installed ones. Of an archive that is taken whole nothing is read while listing: its task does both
passes. A sample needs to know every file's size, and so one pass more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict

from megatron_snow.artifacts.progress import track
from megatron_snow.corpus.archives import ArchiveError, archive_files, members, repository_name, survey
from megatron_snow.corpus.git import Blob, Clone, blobs, clone_license, clones, linked_folders, read_blobs
from megatron_snow.corpus.language import Names
from megatron_snow.corpus.rules import text_of_no_interest
from megatron_snow.corpus.sampling import Candidate, hash_order, sample
from megatron_snow.corpus.settings import ArchivesSource, GitSource
from megatron_snow.corpus.walking import LINKED_FOLDERS

_PACKED = 5  # bytes of source text in one byte of an archive, for tasks of about equal size (ours: 4 to 8 on Debian's)
_ITEM_BYTES = 16 * 2**20  # of a clone's files in one item: a large repository is read by several tasks (ours)
NOT_CODE = "not code by name"


class ArchiveItem(TypedDict):
    """One archive to read."""

    kind: Literal["archive"]
    source: str
    location: str
    max_archive_bytes: int
    refused: str
    """Why it is not to be read; found while listing."""
    paths: list[str] | None
    """Files of the sample; None takes all."""


class BlobsItem(TypedDict):
    """Files of one clone to read."""

    kind: Literal["blobs"]
    source: str
    location: str
    repository: str
    license: str
    blobs: list[tuple[str, str, str]]
    """(object, path, language by name)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was read."""

    repository: str
    path: str
    license: str
    hint: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A file, or with an empty path the whole archive, that is not used, and why."""

    repository: str
    path: str
    hint: str
    reason: str
    detail: str


def wanted(names: Names, path: str) -> str | None:
    """The likeliest language of a file by its name, "" where the name says nothing (a script may have one), None for no code."""
    guess = names.guess(path)
    return None if guess is None or text_of_no_interest(path, guess) else guess


def list_archives(source: ArchivesSource, seed: int, names: Names, max_file_bytes: int) -> tuple[list[tuple[Any, int]], dict[str, Any]]:
    """Items with their bytes, and what is told of the source."""
    files, skipped = archive_files(source)
    counts: dict[str, Any] = {"archives": len(files), "bytes on disk": sum(file.stat().st_size for file in files)} | skipped

    def item(file: Path, paths: list[str] | None = None, refused: str = "") -> ArchiveItem:
        return ArchiveItem(kind="archive", source=source.name, location=str(file), max_archive_bytes=source.max_archive_bytes, refused=refused, paths=paths)

    if source.max_bytes is None:
        return [(item(file), _PACKED * file.stat().st_size) for file in files], counts
    candidates: list[Candidate] = []
    places: list[tuple[int, str]] = []
    items: list[tuple[Any, int]] = []
    for number, file in enumerate(track(files, f"listing {source.name}", unit="archives")):
        repository, part = repository_name(file)
        try:
            found = survey(file, source.max_archive_bytes, entries=True)
        except ArchiveError as error:
            items.append((item(file, refused=str(error)), 0))
            continue
        for entry, size in found.entries:
            path = part + entry.removeprefix(found.prefix)
            if (guess := wanted(names, path)) is not None and size <= max_file_bytes:
                candidates.append(Candidate(hash_order(seed, f"{repository}/{path}"), (repository, guess), size))
                places.append((number, entry))
    chosen: dict[int, list[str]] = {}
    sizes: Counter[int] = Counter()
    for index in sample(candidates, source.max_bytes):
        number, entry = places[index]
        chosen.setdefault(number, []).append(entry)
        sizes[number] += candidates[index].size
    items += [(item(files[number], paths), sizes[number]) for number, paths in sorted(chosen.items())]
    return items, counts | {"files": len(candidates), "not sampled": len(candidates) - sum(map(len, chosen.values())), "bytes read": sizes.total()}


def read_archive(item: ArchiveItem, names: Names, max_file_bytes: int) -> Iterator[Found | Refused | str]:
    """The files of one archive that may be wanted; a plain string names what another file was left out for."""
    file = Path(item["location"])
    repository, part = repository_name(file)
    try:
        if item["refused"]:
            raise ArchiveError(item["refused"])
        found = survey(file, item["max_archive_bytes"])
        chosen = None if item["paths"] is None else set(item["paths"])
        for member in members(file, found.prefix, item["max_archive_bytes"]):
            path = part + member.path
            guess = wanted(names, path)
            if chosen is not None and found.prefix + member.path not in chosen:
                continue
            if guess is None:
                yield NOT_CODE
            elif member.size > max_file_bytes:
                yield Refused(repository, path, guess, "too large", f"{member.size} bytes")
            elif (content := member.content()) and guess == "" and not content.startswith(b"#!"):
                yield NOT_CODE
            else:
                yield Found(repository, path, found.license, guess, content)
    except ArchiveError as error:
        yield Refused(repository, "", "", str(error), f"{file.name}: {error.__cause__ or error}")


def list_clones(source: GitSource, seed: int, names: Names, max_file_bytes: int) -> tuple[list[tuple[Any, int]], dict[str, Any]]:
    """Items with their bytes, and what is told of the source."""
    every = clones(source)
    counts: Counter[str] = Counter(clones=len(every))
    if links := linked_folders(source):
        counts[LINKED_FOLDERS] = links
    listed: list[tuple[Clone, Blob, str]] = []
    licenses: dict[str, str] = {}
    for clone in track(every, f"listing {source.name}", unit="clones"):
        entries, others = blobs(clone)
        counts.update(others | {"files": len(entries)})
        licenses[clone.location] = clone_license(clone, entries)
        for blob in entries:
            guess = wanted(names, blob.path)
            if guess is None or (guess == "" and PurePosixPath(blob.path).suffix):
                counts[NOT_CODE] += 1
            elif blob.size > max_file_bytes:
                counts["too large"] += 1
            else:
                listed.append((clone, blob, guess))
    if source.max_bytes is not None:
        candidates = [Candidate(hash_order(seed, f"{c.repository}/{b.path}"), (c.repository, guess), b.size) for c, b, guess in listed]
        taken = sample(candidates, source.max_bytes)
        counts["not sampled"] = len(listed) - len(taken)
        listed = [listed[index] for index in taken]
    items: list[tuple[Any, int]] = []
    room = 0
    for clone, blob, guess in listed:
        if not items or items[-1][0]["location"] != clone.location or room + blob.size > _ITEM_BYTES:
            blank = BlobsItem(
                kind="blobs", source=source.name, location=clone.location, repository=clone.repository, license=licenses[clone.location], blobs=[]
            )
            items.append((blank, 0))
            room = 0
        items[-1][0]["blobs"].append((blob.object, blob.path, guess))
        room += blob.size
        items[-1] = (items[-1][0], room)
    return items, dict(counts) | {"read": len(listed)}


def read_clone(item: BlobsItem) -> Iterator[Found | Refused | str]:
    """The files of one item of a clone."""
    repository = item["repository"]
    contents = read_blobs(Path(item["location"]), [name for name, _, _ in item["blobs"]])
    for _, path, hint in item["blobs"]:
        content = next(contents, None)
        if content is None:
            yield Refused(repository, path, hint, "unreadable", "the clone lacks the object")
        elif hint == "" and not content.startswith(b"#!"):
            yield NOT_CODE
        else:
            yield Found(repository, path, item["license"], hint, content)
