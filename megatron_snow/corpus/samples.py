"""Samples of what was dropped, by rule and language, and of what was kept: ``samples.jsonl``, for people to judge the filters by.

Which ones is told by a hash of their name, so that it does not depend on who saw which document first. Texts come redacted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import orjson

from megatron_snow.artifacts.publish import write_atomically

NAME = "samples.jsonl"
DROPPED, KEPT = 2, 4  # samples of a (rule, language), and of a language (ours: a screen of each in the report)
_SPARE = 16  # more candidates of what is kept: some turn out to be duplicates
TEXT = 2_000  # characters of a sample's text (ours)
_OTHER = "other"


class Sample(TypedDict):
    """One row. ``repository``, ``path`` and ``license`` are known of kept ones only."""

    kind: str
    """``kept`` or ``dropped``."""
    reason: str
    language: str
    id: str
    repository: str
    path: str
    license: str
    text: str


def mark(kind: str, identifier: str) -> str:
    """The order in which samples are preferred."""
    return hashlib.sha256(f"{kind}\0{identifier}".encode(errors="replace")).hexdigest()


class Samples:
    """The samples of one task; those of all tasks add up to the same in any order."""

    def __init__(self, languages: frozenset[str] = frozenset()) -> None:
        """``languages``: those told apart; all others (linguist knows 700) share their samples."""
        self._languages = languages
        self._groups: dict[str, list[tuple[str, Sample]]] = {}

    def wants(self, kind: str, reason: str, language: str, order: str) -> bool:
        """Whether a document with this ``mark`` would be among the samples: asked before its text is made fit to be shown."""
        group = self._groups.get(self._group(kind, reason, language), [])
        return len(group) < self._limit(kind) or order < group[-1][0]

    def add(self, order: str, sample: Sample) -> None:
        """Take a sample, if it is among the first of its group."""
        key = self._group(sample["kind"], sample["reason"], sample["language"])
        self._groups[key] = sorted([*self._groups.get(key, []), (order, sample)], key=lambda one: (one[0], one[1]["id"]))[: self._limit(sample["kind"])]

    def forget(self, identifier: str, language: str) -> None:
        """A document taken for kept is a duplicate after all."""
        key = self._group("kept", "", language)
        if key in self._groups:
            self._groups[key] = [one for one in self._groups[key] if one[1]["id"] != identifier]

    def dump(self) -> dict[str, Any]:
        """JSON-able, for ``merge``."""
        return {key: [[order, sample] for order, sample in group] for key, group in self._groups.items()}

    def merge(self, dumped: dict[str, Any]) -> None:
        """Add what another's ``dump`` holds."""
        for key, group in dumped.items():
            limit = self._limit(key.partition("\0")[0])
            self._groups[key] = sorted([*self._groups.get(key, []), *((order, sample) for order, sample in group)], key=lambda one: (one[0], one[1]["id"]))[
                :limit
            ]

    def rows(self) -> Iterator[Sample]:
        """All samples, by kind, rule and language."""
        for key in sorted(self._groups):
            group = self._groups[key]
            yield from (sample for _, sample in group[: KEPT if key.startswith("kept") else DROPPED])

    def write(self, path: Path) -> None:
        """Write ``samples.jsonl``."""
        write_atomically(path, b"".join(orjson.dumps(row) + b"\n" for row in self.rows()))

    def _group(self, kind: str, reason: str, language: str) -> str:
        known = language in self._languages or not self._languages
        return f"{kind}\0{reason}\0{language if known else _OTHER}"

    @staticmethod
    def _limit(kind: str) -> int:
        return KEPT + _SPARE if kind == "kept" else DROPPED
