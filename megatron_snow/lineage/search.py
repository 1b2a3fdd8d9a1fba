"""Finds rows by the id they begin with in shards of a tier, without reading what the rows hold: a step's samples lie in hundreds of shards.

Rows are written with their id first (``artifacts.documents``), so a row that is not wanted costs a look at its beginning; a shard is read up to the
last row wanted of it, and many shards by as many processes as there are cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import orjson
import zstandard

from megatron_snow.artifacts.documents import Document, damaged_shard
from megatron_snow.artifacts.orphans import end_with_parent
from megatron_snow.artifacts.progress import track

_READ = 2**18  # compressed bytes at a time (ours: some 1.5 MB of code)
_ALONE = 2**28  # compressed bytes that one process reads (ours: a second or two; starting others takes as long)
_KEY = b'{"id":'

Found = list[tuple[int, Document]]
"""Rows by their number in the shard, from 0."""


def find_rows(path: Path, ids: Iterable[str]) -> Found:
    """The rows of one shard that bear these ids; each is in it once at most. Raises SnowError where the shard is damaged before the last of them."""
    wanted = {orjson.dumps(name) for name in ids}
    found: Found = []
    if not wanted:
        return found
    number, rest = 0, b""
    stream = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as raw:
        while chunk := raw.read(_READ):
            try:
                *lines, rest = (rest + stream.decompress(chunk)).split(b"\n")
            except zstandard.ZstdError as error:
                raise damaged_shard(f"{path}, after line {number}: {error}") from error
            for line in lines:
                number += 1
                key = line[len(_KEY) : line.find(b'"', len(_KEY) + 1) + 1]
                if line.startswith(_KEY) and key not in wanted and b"\\" not in key:  # what is escaped may be longer than it looks
                    continue
                try:
                    document: Document = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise damaged_shard(f"{path}, line {number}: not JSON ({error})") from error
                if (name := orjson.dumps(document["id"])) in wanted:
                    found.append((number - 1, {**document, "text": ""}))  # a copy of all it holds but the text
                    wanted.discard(name)
                    if not wanted:
                        return found
    if rest or not stream.eof:
        raise damaged_shard(f"{path} ends in the middle, after line {number}")
    return found


def find_in_shards(wanted: Mapping[Path, set[str]]) -> Iterator[tuple[Path, Found]]:
    """``find_rows`` of every shard named, in their order, with progress."""
    paths = list(wanted)
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or sum(path.stat().st_size for path in paths) < _ALONE:
        yield from ((path, find_rows(path, wanted[path])) for path in track(paths, "looking files up", unit="shards"))
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(cores, len(paths)), mp_context=context, initializer=end_with_parent) as pool:
        rows = pool.map(find_rows, paths, [wanted[path] for path in paths])
        yield from zip(paths, track(rows, "looking files up", total=len(paths), unit="shards"), strict=True)
