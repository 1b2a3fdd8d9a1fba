"""metrics.jsonl and validation.jsonl: a row a step and a row a validated tier or language, cut back when a run resumes."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from megatron_snow.artifacts.publish import write_atomically

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file, none where it does not exist; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def cut_back(path: Path, step: int) -> None:
    """Drop the rows after ``step``: they were written after the checkpoint that the run resumes from."""
    if path.exists():
        write_atomically(path, b"".join(orjson.dumps(row) + b"\n" for row in read_rows(path) if row["step"] <= step))


class Records:
    """The two files of a training folder, open for appending after ``step``; on ranks other than the leader, nothing.

    A row is handed to the system at once, so that a killed process loses none; ``sync`` waits for the disk, before a
    checkpoint that stands for those rows is published.
    """

    def __init__(self, work: Path, step: int, leader: bool) -> None:
        self._handles: dict[str, int] = {}
        if leader:
            for name in (METRICS, VALIDATION):
                cut_back(work / name, step or -1)  # whoever starts over begins with a validation
                self._handles[name] = os.open(work / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Append one row to ``METRICS`` or ``VALIDATION``."""
        if name in self._handles:
            os.write(self._handles[name], orjson.dumps(row) + b"\n")

    def sync(self) -> None:
        """Wait until the rows are on disk."""
        for handle in self._handles.values():
            os.fsync(handle)
