"""Judging beside asking: parsing, counting and hashing the answers in processes of their own, so that nothing holds up the requests.

Judging takes some milliseconds an answer. With few requests in flight it is done in place; with thousands it would be the limit, and a
loop that is busy judging notices late that a place has become free. Each process has a pipe of its own and one batch at a time, so
that neither side ever waits for room in it; a killed parent closes the pipes and the processes end.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.settings import DecontaminationSettings, LicenseSettings, NearDuplicateSettings, RedactionSettings
from megatron_snow.corpus.shingles import band_keys
from megatron_snow.synthesis.answers import Judge, make_judge
from megatron_snow.synthesis.journal import Answer
from megatron_snow.tokens import counting_encoder

T = TypeVar("T")
_BATCH = 32  # answers sent to a process at a time (ours: some 100 ms of work, against a loop's wake-up of 1)


class Judged(NamedTuple):
    """What is remembered of a judged answer: its text stays in the journal."""

    reason: str
    """Empty where it became a document."""
    detail: str = ""
    fingerprint: bytes = b""
    tokens: int = 0
    bands: bytes = b""
    """The document's MinHash bands (uint64), where near-duplicates are sought."""


@dataclass(frozen=True)
class Brief:
    """All that a judge needs to know, to be made in any process."""

    tokenizer: Path
    """The tokenizer arrow's folder, which counts a document's tokens."""
    decontamination: DecontaminationSettings
    redaction: RedactionSettings
    min_characters: int
    near_duplicates: NearDuplicateSettings | None
    own_words: tuple[str, ...] = ()
    """The prompts' (``Prompt.own_words``)."""
    licenses: LicenseSettings | None = None


class Examiner:
    """Judges one answer after the other."""

    def __init__(self, brief: Brief) -> None:
        self._near = brief.near_duplicates
        self._judge: Judge = make_judge(brief.decontamination, brief.redaction, brief.min_characters, brief.own_words, brief.licenses)
        self._counter = counting_encoder(brief.tokenizer)

    def examine(self, answer: Answer, language: str) -> Judged:
        """The verdict, and of a document what the others are compared with."""
        verdict = self._judge.judge(answer, language)
        if verdict.reason:
            return Judged(verdict.reason, verdict.detail)
        bands = b"" if self._near is None else band_keys([verdict.text.encode()], self._near).tobytes()
        return Judged("", "", verdict.fingerprint, self._counter.count([verdict.text])[0], bands)


class Judges(Generic[T]):
    """``with Judges(brief, processes, judged) as judges: judges.submit(tag, answer, language)``; ``judged(tag, answer, Judged)`` follows.

    0 processes: at once, in this one. Else in no order: while an event loop runs that they are attached to, or in ``finish``.
    """

    def __init__(self, brief: Brief, processes: int, judged: Callable[[T, Answer, Judged], None]) -> None:
        self._judged = judged
        self._queue: deque[tuple[T, Answer, str]] = deque()
        self._members: list[_Member[T]] = []
        self._examiner = Examiner(brief) if not processes else None
        context = multiprocessing.get_context("spawn")  # fork would copy our threads' locks
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(brief, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append(_Member(process, ours))
        self._changed = asyncio.Event()

    def __enter__(self) -> Judges[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for member in self._members:
            member.connection.close()
        for member in self._members:
            member.process.join(timeout=5)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()

    @property
    def backlog(self) -> int:
        """Answers not judged yet."""
        return len(self._queue) + sum(len(member.batch) for member in self._members)

    def submit(self, tag: T, answer: Answer, language: str) -> None:
        """Have an answer judged."""
        if self._examiner is not None:
            self._judged(tag, answer, self._examiner.examine(answer, language))
            return
        self._queue.append((tag, answer, language))
        self._feed()

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Within, the running event loop takes the verdicts as they come."""
        loop = asyncio.get_running_loop()
        for member in self._members:
            loop.add_reader(member.connection.fileno(), self._receive, member)
        try:
            yield
        finally:
            for member in self._members:
                loop.remove_reader(member.connection.fileno())

    async def room(self, most: int) -> None:
        """Wait until no more than ``most`` answers wait to be judged."""
        while self.backlog > most:
            self._changed.clear()
            await self._changed.wait()

    def finish(self, most: int = 0) -> None:
        """Without an event loop: wait until no more than ``most`` answers wait to be judged."""
        while self.backlog > most:
            for ready in wait([member.connection for member in self._members if member.batch]):
                self._receive(next(member for member in self._members if member.connection is ready))

    def _feed(self) -> None:
        for member in self._members:
            if self._queue and not member.batch:
                member.batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                try:
                    member.connection.send([(answer, language) for _, answer, language in member.batch])
                except OSError as error:
                    raise _died(member.process) from error

    def _receive(self, member: _Member[T]) -> None:
        try:
            results = member.connection.recv()
        except (EOFError, OSError) as error:
            raise _died(member.process) from error
        if isinstance(results, BaseException):
            raise results
        batch, member.batch = member.batch, []
        self._feed()
        for (tag, answer, _), judged in zip(batch, results, strict=True):
            self._judged(tag, answer, judged)
        self._changed.set()


@dataclass
class _Member(Generic[T]):
    process: BaseProcess
    connection: Connection
    batch: list[tuple[T, Answer, str]]

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection, self.batch = process, connection, []


def _died(process: BaseProcess) -> SnowError:
    process.join(timeout=5)
    return SnowError(
        f"a judging process ended early (exit code {process.exitcode}; -9 is a kill, mostly for want of memory); free memory or lower synthesize.judges, "
        "then run again: the answers are kept in the journal"
    )


def _work(brief: Brief, connection: Connection) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed it, or is gone
        try:
            examiner = Examiner(brief)
        except SnowError as error:
            connection.recv()
            connection.send(error)
            return
        while True:
            batch = connection.recv()
            try:
                connection.send([examiner.examine(answer, language) for answer, language in batch])
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(error)
