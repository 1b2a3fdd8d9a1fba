"""Every answer, on disk before it counts: one JSON line each, so that a killed run asks again only what was in flight.

A line is written with one call as soon as the answer is there (a killed process loses none) and synced to the disk within a
second (a power cut loses at most that much). A last line that was cut short is dropped when the journal is opened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import orjson
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import Settings

_SYNC_EVERY = 1.0  # seconds between syncs (ours: at thousands of answers a second, one sync each would be the limit)


class Answer(Settings):
    """What came back for one request."""

    id: str
    """The request's id: a hash of all that shapes the answer."""
    content: str
    finish_reason: str
    """``stop`` where the model ended by itself; ``refused`` where the server would not answer this request (``content`` says why)."""
    prompt_tokens: int | None = None
    """As the server counts them; None where it does not say."""
    completion_tokens: int | None = None


class Journal:
    """``with Journal(path) as journal``: holds where each answer is, not the answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}
        self._file = path.open("a+b", buffering=0)
        self._end = 0
        self._synced = time.monotonic()
        self._load()

    def _load(self) -> None:
        offset = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file.fileno(), offset)
                    break
                self._offsets[self._read(line, number).id] = offset
                offset += len(line)
        self._end = offset

    def _read(self, line: bytes, number: int) -> Answer:
        try:
            return Answer.model_validate_json(line)
        except ValidationError as error:
            raise SnowError(
                f"{self.path}, line {number}: not an answer ({error.errors()[0]['msg']}); delete that line, its request will be asked again"
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, request: str) -> bool:
        return request in self._offsets

    def add(self, answer: Answer) -> None:
        """Append an answer. Raises ValueError on a request that has one."""
        if answer.id in self._offsets:
            raise ValueError(f"request {answer.id} is answered already")
        line = orjson.dumps(answer.model_dump()) + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(f"{self.path}: the answer could not be written whole")
        self._offsets[answer.id] = self._end
        self._end += len(line)
        if time.monotonic() - self._synced > _SYNC_EVERY:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def read(self, requests: Iterator[str]) -> Iterator[Answer]:
        """The answers to ``requests``, in their order; requests without one are passed over."""
        with self.path.open("rb") as file:
            for request in requests:
                if request in self._offsets:
                    file.seek(self._offsets[request])
                    yield self._read(file.readline(), 0)
