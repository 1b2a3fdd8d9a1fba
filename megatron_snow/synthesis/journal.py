"""Every answer, on disk before it counts: one JSON line each, so that a killed run asks again only what was in flight.

A line is written with one call as soon as the answer is there (a killed process loses none); a thread of its own syncs the file
every second (a power cut loses at most that much), so that no answer waits for the disk. A last line that was cut short is dropped when
the journal is opened. One process at a time: the file is locked while it is open.

A request that failed for good has a line too, which an answer given later takes the place of.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import orjson
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import Settings

_SYNC_EVERY = 1.0  # seconds between syncs (ours: at thousands of answers a second, one sync each would be the limit)
REFUSED, FAILED = "refused", "failed"


class Answer(Settings):
    """What came back for one request."""

    id: str
    """The request's id: a hash of all that shapes the answer."""
    content: str
    finish_reason: str
    """``stop`` where the model ended by itself; ``refused`` where the server would not answer this request, ``failed`` where all tries
    did (``content`` says why)."""
    prompt_tokens: int | None = None
    """As the server counts them; None where it does not say."""
    completion_tokens: int | None = None


class Journal:
    """``with Journal(path) as journal``: holds where each answer is, not the answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise SnowError(f"{path} is in use by another process; wait for it to end, or end it: two would ask the same questions") from error
        self._end = 0
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._trouble: OSError | None = None
        self._syncing = threading.Thread(target=self._sync, name="journal", daemon=True)
        self._syncing.start()

    def _load(self) -> None:
        offset = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file.fileno(), offset)
                    break
                answer = self._read(line, number)
                self._note(answer, offset)
                offset += len(line)
        self._end = offset

    def _note(self, answer: Answer, offset: int) -> None:
        if answer.finish_reason == FAILED:
            if answer.id not in self._offsets:
                self._failed[answer.id] = offset
        else:
            self._offsets[answer.id] = offset
            self._failed.pop(answer.id, None)

    def _read(self, line: bytes, number: int, path: Path | None = None) -> Answer:
        try:
            return Answer.model_validate_json(line)
        except ValidationError as error:
            raise SnowError(
                f"{path or self.path}, line {number}: not an answer ({error.errors()[0]['msg']}); delete that line, its request will be asked again"
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._dirty.set()
        self._syncing.join()
        self._file.close()
        if kind is None:
            self._complain()

    def __len__(self) -> int:
        """Answers; failures are none."""
        return len(self._offsets)

    def __contains__(self, request: str) -> bool:
        return request in self._offsets

    def adopt(self, other: Path, wanted: Callable[[str], bool]) -> tuple[int, int]:
        """Take over the answers of another journal to requests that are ``wanted`` and have none here.

        Returns how many those are, and how many more it has that are not here.

        Raises SnowError where the other journal is damaged.
        """
        taken = left = 0
        with other.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                answer = self._read(line, number, other)
                if answer.finish_reason == FAILED or answer.id in self._offsets:
                    continue
                if wanted(answer.id):
                    self.add(answer)
                    taken += 1
                else:
                    left += 1
        return taken, left

    def sync(self) -> None:
        """All that was added is on the disk when this returns. Raises SnowError where the disk does not take it."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._trouble = error
        self._complain()

    def failed(self, request: str) -> bool:
        """Whether the request failed for good and has no answer since."""
        return request in self._failed

    def add(self, answer: Answer) -> None:
        """Append an answer. Raises ValueError on a request that has one, SnowError where the disk does not take it."""
        if answer.id in self._offsets:
            raise ValueError(f"request {answer.id} is answered already")
        self._complain()
        line = orjson.dumps(answer.model_dump()) + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            self._trouble = error
            written = None
        if written != len(line):
            os.ftruncate(self._file.fileno(), self._end)  # a line cut short in the middle would spoil the next
            self._trouble = self._trouble or OSError("the disk took only a part of a line; it is full, or a quota is")
            self._complain()
        self._note(answer, self._end)
        self._end += len(line)
        self._dirty.set()

    def read(self, requests: Iterator[str]) -> Iterator[Answer]:
        """The answers to ``requests``, in their order; requests without one are passed over."""
        with self.path.open("rb") as file:
            for request in requests:
                if request in self._offsets:
                    file.seek(self._offsets[request])
                    yield self._read(file.readline(), 0)

    def _complain(self) -> None:
        if self._trouble is not None:
            raise SnowError(f"{self.path}: {self._trouble}; make room on the disk and run again: the answers before are kept") from self._trouble

    def _sync(self) -> None:
        while True:
            self._dirty.wait()
            self._dirty.clear()
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._trouble = error
                return
            if self._closing.wait(_SYNC_EVERY) and not self._dirty.is_set():
                return
