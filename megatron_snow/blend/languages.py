"""Which language each document of a tier is in, from the rows the tokenize arrow wrote beside its shards.

Reading the rows takes a second a million documents, so that what comes of it is kept in the index cache, under a name
made of the rows' fingerprints; their files are fingerprinted again only where size, inode or time of change differ.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.blend import native
from megatron_snow.blend.documents import read_rows, rows_path
from megatron_snow.blend.shards import Integers, TierFiles, settled

OTHERS = "*"
"""Stands for all languages that are not named."""


class Selection:
    """Some of a tier's documents, in their order. ``tokens`` is what they hold."""

    def __init__(self, table: LanguageTable, codes: list[int]) -> None:
        self._table, self._codes = table, codes
        self.tokens = int(sum(table.tokens[code] for code in codes))
        self.fingerprint = hashlib.sha256(f"{table.fingerprint}/{sorted(table.names[code] for code in codes)}".encode()).hexdigest()[:32]
        self._documents: Any = None
        self._lengths: Any = None

    @property
    def documents(self) -> npt.NDArray[Any]:
        """Their places in the tier: int32, or int64 where the tier has 2^31 documents or more; ascending."""
        if self._documents is None:
            kind = "<i4" if len(self._table.codes) < 2**31 else "<i8"
            self._documents = self._table.files.cache.get(f"chosen-{self.fingerprint}", kind, lambda: np.flatnonzero(np.isin(self._table.codes, self._codes)))
        return self._documents

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each."""
        if self._lengths is None:
            files = self._table.files
            self._lengths = files.cache.get(f"lengths-{self.fingerprint}", "<i4", lambda: files.lengths[self.documents], check=False)
        return self._lengths

    def forget(self) -> None:
        """Drop what the cache holds of it."""
        self._table.files.cache.drop(f"lengths-{self.fingerprint}")
        self._documents = self._lengths = None


class LanguageTable:
    """The language of every document of a tier."""

    def __init__(self, files: TierFiles) -> None:
        """Raises SnowError where the rows are missing or do not fit the shards."""
        self.files = files
        content = _fingerprint(files) if files.cache.folder is not None else ""
        self.fingerprint = hashlib.sha256(f"{files.fingerprint}/{content}".encode()).hexdigest()[:32]
        self._read: tuple[list[str], npt.NDArray[np.uint16]] | None = None
        self._codes: npt.NDArray[np.uint16] | None = None
        raw = files.cache.get(f"languages-{self.fingerprint}", "|u1", self._summary)
        rows = orjson.loads(raw.tobytes())
        self.names: list[str] = [row[0] for row in rows]
        self.tokens: list[int] = [row[1] for row in rows]

    @property
    def codes(self) -> npt.NDArray[np.uint16]:
        """Number of each document's language in ``names``, uint16 [documents]."""
        if self._codes is None:
            self._codes = self.files.cache.get(f"codes-{self.fingerprint}", "<u2", lambda: self._rows()[1])
        return self._codes

    def select(self, wanted: Iterable[str]) -> dict[str, Selection]:
        """Language -> its documents; ``OTHERS`` -> those of all that are not wanted by name. Raises SnowError for one that has no tokens."""
        wanted = list(wanted)
        numbers = {name: number for number, name in enumerate(self.names)}
        chosen = {}
        for name in wanted:
            codes = [number for language, number in numbers.items() if language not in wanted] if name == OTHERS else [numbers[name]] if name in numbers else []
            chosen[name] = Selection(self, codes)
            if chosen[name].tokens == 0:
                there = ", ".join(language for language, tokens in zip(self.names, self.tokens, strict=True) if tokens)
                what = "no other languages than those named" if name == OTHERS else f"no {name}"
                raise SnowError(f"tier {self.files.tier!r} has {what}; it has {there}; change its shares of languages")
        return chosen

    def _rows(self) -> tuple[list[str], npt.NDArray[np.uint16]]:
        if self._read is None:
            numbers: dict[str, int] = {}
            codes = []
            for shard in track(range(len(self.files.names)), f"languages of {self.files.tier}", unit="shards", total=len(self.files.names)):
                found = [numbers.setdefault(row["language"], len(numbers)) for row in read_rows(self.files.prefix(shard))]
                expected = int(self.files.first_document[shard + 1] - self.files.first_document[shard])
                if len(found) != expected:
                    raise SnowError(
                        f"{rows_path(self.files.prefix(shard))} has {len(found)} rows, its shard {expected} documents; run the tokenize arrow again"
                    )
                codes.append(np.array(found, np.uint16))
            self._read = list(numbers), np.concatenate(codes)
        return self._read

    def _summary(self) -> npt.NDArray[np.uint8]:
        names, codes = self._rows()
        tokens = np.zeros(len(names), np.int64)
        np.add.at(tokens, codes, self.files.lengths)
        return np.frombuffer(orjson.dumps(list(zip(names, tokens.tolist(), strict=True))), np.uint8)


def _fingerprint(files: TierFiles) -> str:
    """Of the contents of all row files, from the cache where they have not changed since."""
    paths = [rows_path(files.prefix(shard)) for shard in range(len(files.names))]
    now: Integers = np.array([_status(path) for path in paths], np.int64)
    name = "rows-" + hashlib.sha256("\0".join([str(files.folder.resolve()), *files.names]).encode()).hexdigest()[:32]
    old = files.cache.load(name, "<i8")
    if old is None or not settled(files.cache, name, old, now, columns=5):
        digests = np.array([native.digest(path.read_bytes()) for path in paths], np.uint64).view(np.int64)
        old = np.ascontiguousarray(np.hstack((now, digests)).reshape(-1))
        files.cache.store(name, old)
    return hashlib.sha256(np.ascontiguousarray(old.reshape(-1, 5)[:, 3:]).tobytes()).hexdigest()


def _status(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise SnowError(f"no {path}: what languages the documents are in is not known; shares of languages need what the tokenize arrow writes") from error
    return status.st_size, max(status.st_mtime_ns, status.st_ctime_ns), status.st_ino
