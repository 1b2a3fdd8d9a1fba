"""A tier's shards: how many documents and tokens, how long each document is, and the tokens of any pieces of them.

Opening reads every shard's ``.idx`` once, in C++ and by several threads, and checks it against its ``.bin``. With a
cache a start reads none: an ``.idx`` that has the size, inode and time of change it had when it was read has the
fingerprint it had then (what git does for its index), and the lengths lie in the cache under the fingerprints' name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.sample import Span
from megatron_snow.tokens.indexed import CODES, IndexedDataset, bin_path

Integers = npt.NDArray[np.int64]

_MOST_THREADS = 16  # ours: reads in flight that a network file system still gains from
_SETTLED = 2_000_000_000  # ns; a file changed this shortly before it was read may change again within one tick of its clock (ours: as coarse as clocks get)


def threads() -> int:
    """How many threads build an index: the CPUs this process may use, 16 at most."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def settled(cache: IndexCache, name: str, old: Integers, now: Integers, columns: int) -> bool:
    """Whether the entry ``name``, rows of ``columns`` that begin with files' size, time of change and more, is about the files as they are ``now``."""
    if len(old) != columns * len(now) or cache.written(name) - int(now[:, 1].max()) <= _SETTLED:
        return False
    return np.array_equal(old.reshape(-1, columns)[:, : now.shape[1]], now)


class TierFiles:
    """The shards ``<folder>/<tier>/*.idx`` and ``.bin``, by name."""

    def __init__(self, folder: Path, tier: str, cache: IndexCache) -> None:
        """Raises SnowError where the tier is missing, empty or damaged."""
        self.folder, self.tier, self.cache = folder / tier, tier, cache
        try:
            self.names = sorted(entry.name[: -len(".idx")] for entry in os.scandir(self.folder) if entry.name.endswith(".idx"))
        except (FileNotFoundError, NotADirectoryError):
            self.names = []
        if not self.names:
            there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else "no such folder"
            raise SnowError(f"no tier {tier!r} in {folder} (there is: {there or 'nothing'}): no {tier}/*.idx; tokenize it, or take it out of the blend")
        self._open()

    def _open(self) -> None:
        documents, tokens, self.fingerprint, self.lengths = self._remembered() if self.cache.folder is not None else self._scanned()
        self.shard_tokens: list[int] = tokens.tolist()
        self.tokens = sum(self.shard_tokens)
        if self.tokens == 0:
            raise SnowError(
                f"tier {self.tier!r} in {self.folder.parent} holds no tokens ({len(self.names)} shards, all empty); "
                "loosen what selects it, or take it out of the blend"
            )
        self.first_document: Integers = np.cumsum([0, *documents])
        self._reader = native.SampleReader(self.first_document)

    def prefix(self, shard: int) -> Path:
        """The shard's path without ``.bin`` / ``.idx``."""
        return self.folder / self.names[shard]

    def read(self, rows: Integers) -> tuple[Integers, Integers, Integers]:
        """The tokens of pieces, one after another.

        Args:
            rows: int64 [pieces, 3]: document through all shards, first token in it, tokens.

        Returns:
            Tokens int64 [sum of tokens], where the pieces begin int64 [pieces + 1], (shard, document in it) int64 [pieces, 2].

        Raises:
            SnowError: where a shard is damaged.
        """
        try:
            while not isinstance(found := self._reader.gather(rows), tuple):
                self._attach(found)
        except ValueError as error:
            raise SnowError(f"tier {self.tier!r} in {self.folder.parent}: {error}; an index is damaged: make it again") from error
        return found

    def place(self, rows: Integers) -> Integers:
        """(shard, document in it) of pieces, int64 [pieces, 2]."""
        shards = np.searchsorted(self.first_document, rows[:, 0], side="right") - 1
        return np.stack((shards, rows[:, 0] - self.first_document[shards]), axis=1)

    def spans(self, places: Integers, rows: Integers, epochs: list[int]) -> list[Span]:
        """The pieces by name: ``places`` as ``place`` gives them, and which pass each is of."""
        return [
            Span(self.tier, self.names[shard], document, first, count, epoch)
            for (shard, document), (_, first, count), epoch in zip(places.tolist(), rows.tolist(), epochs, strict=True)
        ]

    def one_sequence_each(self, shard: int) -> bool:
        """Whether every document of a shard is one sequence of the format."""
        data = IndexedDataset(self.prefix(shard))
        return data.lengths is data.sequence_lengths

    def forget(self) -> None:
        """Drop what the cache says of these shards and read them again."""
        self.cache.drop(self._facts_name())
        self.cache.drop(f"lengths-{self.fingerprint}")
        self._open()

    def _attach(self, shard: int) -> None:
        data = IndexedDataset(self.prefix(shard))
        tokens = np.memmap(bin_path(data.prefix), dtype=np.uint8, mode="r") if data.bin_bytes else np.empty(0, np.uint8)
        self._reader.attach(shard, CODES[data.dtype], tokens, data.sequence_pointers, data.document_indices)

    def _scan(self, fingerprints: bool) -> tuple[Integers, npt.NDArray[np.int32]]:
        prefixes = [str(self.folder / name) for name in self.names]
        try:
            return native.scan_shards(prefixes, fingerprints, threads())
        except ValueError as error:
            shard, reason = str(error).split(":", 1)
            IndexedDataset(prefixes[int(shard)])  # raises what it finds wrong with header and sizes
            raise SnowError(f"{prefixes[int(shard)]}.idx: {reason}; the dataset is damaged: make it again") from error

    def _scanned(self) -> tuple[Integers, Integers, str, npt.NDArray[np.int32]]:
        facts, lengths = self._scan(fingerprints=False)
        return facts[:, 0], facts[:, 1], "", lengths

    def _facts_name(self) -> str:
        return "facts-" + hashlib.sha256("\0".join([str(self.folder.resolve()), *self.names]).encode()).hexdigest()[:32]

    def _remembered(self) -> tuple[Integers, Integers, str, npt.NDArray[np.int32]]:
        """Documents and tokens of each shard, the fingerprint of all, the documents' lengths."""
        now, name = self._status(), self._facts_name()
        old = self.cache.load(name, "<i8")
        lengths: Any = None
        if old is not None and settled(self.cache, name, old, now, columns=8):
            facts = old.reshape(-1, 8)[:, 4:]
        else:
            facts, lengths = self._scan(fingerprints=True)
            self.cache.store(name, np.ascontiguousarray(np.hstack((now, facts)).reshape(-1)))
        fingerprint = hashlib.sha256(np.ascontiguousarray(facts).tobytes()).hexdigest()[:32]
        # Unchecked: a damaged length is found where it is used, by the sum of its block.
        lengths = self.cache.get(f"lengths-{fingerprint}", "<i4", lambda: self._scan(fingerprints=False)[1] if lengths is None else lengths, check=False)
        return facts[:, 0], facts[:, 1], fingerprint, lengths

    def _status(self) -> Integers:
        """Size, time of change and inode of each .idx, size of its .bin: int64 [shards, 4]."""
        rows = []
        for name in self.names:
            try:
                idx, tokens = os.stat(f"{self.folder}/{name}.idx"), os.stat(f"{self.folder}/{name}.bin")
            except OSError:
                IndexedDataset(self.folder / name)  # raises what is missing
                raise
            rows.append((idx.st_size, max(idx.st_mtime_ns, idx.st_ctime_ns), idx.st_ino, tokens.st_size))
        return np.array(rows, np.int64)
