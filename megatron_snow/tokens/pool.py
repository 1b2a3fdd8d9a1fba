"""Encode a stream of batches on several CPUs, results in order, bounded memory.

The fast encoder works outside Python's lock, so threads of this process serve it: nothing to start, no text copied to
another process, one tokenizer in memory. The others get processes: batch i goes to worker i mod n, which answers in
order, so reading the workers in turn is the original order. Each worker has a pipe of its own and a thread that keeps
reading it: a killed parent closes the pipe and the workers end (the standard library's executors leave theirs behind),
and neither side can block the other.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import EncoderSpec, Ids, Lengths

Tag = TypeVar("Tag")
_AHEAD = 4  # batches each worker holds or has answered and we have not read (ours: hides one long batch behind the others)
_FEW = 8  # batches that are done before processes would have started (ours: about a second)


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_stream(spec: EncoderSpec, batches: Iterable[tuple[list[str], Tag]], workers: int) -> Iterator[tuple[Ids, Lengths, Tag]]:
    """Yield ``(ids, lengths, tag)`` for each ``(texts, tag)``, in order; ``batches`` is read only a few ahead.

    Few batches, or one worker of a process kind, run in this process. Raises what a worker raised, or SnowError where one was killed.
    """
    stream = iter(batches)
    if spec.kind == "fast" and not spec.sentences:  # nltk holds Python's lock
        yield from _in_threads(spec, stream, workers)
        return
    head = list(itertools.islice(stream, _FEW))
    if workers <= 1 or len(head) < _FEW:
        encoder = spec.build()
        for texts, tag in itertools.chain(head, stream):
            yield (*encoder.encode(texts), tag)
        return
    with _Workers(spec, workers) as pool:
        waiting: deque[Tag] = deque()
        for texts, tag in itertools.chain(head, stream):
            if len(waiting) == workers * _AHEAD:
                yield (*pool.receive(), waiting.popleft())
            pool.send(texts)
            waiting.append(tag)
        while waiting:
            yield (*pool.receive(), waiting.popleft())


def _in_threads(spec: EncoderSpec, stream: Iterator[tuple[list[str], Tag]], workers: int) -> Iterator[tuple[Ids, Lengths, Tag]]:
    encoder = spec.build()
    waiting: deque[tuple[Future[tuple[Ids, Lengths]], Tag]] = deque()
    with ThreadPoolExecutor(workers, "encode") as pool:
        try:
            for texts, tag in stream:
                if len(waiting) == workers * _AHEAD:
                    done, first = waiting.popleft()
                    yield (*done.result(), first)
                waiting.append((pool.submit(encoder.encode, texts), tag))
            while waiting:
                done, first = waiting.popleft()
                yield (*done.result(), first)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Workers:
    """The processes, fed and read in turn."""

    def __init__(self, spec: EncoderSpec, count: int) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy our threads' locks
        self._members: list[tuple[BaseProcess, Connection]] = []
        self._sent = self._received = 0
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(spec, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for _process, connection in self._members:
            connection.close()
        for process, _connection in self._members:
            process.join(timeout=5)
            if process.is_alive():  # in the middle of a long batch nobody waits for
                process.kill()
                process.join()

    def send(self, texts: list[str]) -> None:
        process, connection = self._members[self._sent % len(self._members)]
        self._sent += 1
        try:
            connection.send(texts)
        except OSError as error:
            raise _died(process) from error

    def receive(self) -> tuple[Ids, Lengths]:
        process, connection = self._members[self._received % len(self._members)]
        self._received += 1
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise _died(process) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _died(process: BaseProcess) -> SnowError:
    process.join(timeout=5)
    return SnowError(
        f"a tokenizer process ended early (exit code {process.exitcode}; -9 is a kill, mostly for want of memory): "
        "free memory or use fewer workers, then run again"
    )


def _work(spec: EncoderSpec, connection: Connection) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    inbox: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    encoder = spec.build()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone
        while (texts := inbox.get()) is not None:
            try:
                connection.send(encoder.encode(texts))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(error)


def _read(connection: Connection, inbox: queue.SimpleQueue[list[str] | None]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(connection.recv())
    inbox.put(None)
