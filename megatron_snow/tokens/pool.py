"""Encode a stream of batches on several CPUs, results in order, bounded memory.

The fast encoder works outside Python's lock, so threads of this process serve it: nothing to start, no text copied to
another process, one tokenizer in memory. The others get processes (``artifacts.processes``).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from megatron_snow.artifacts.processes import AHEAD, Processes, cpus
from megatron_snow.tokens.encoder import EncoderSpec, Ids, Lengths

__all__ = ["cpus", "encode_stream"]

Tag = TypeVar("Tag")
_FEW = 8  # batches that are done before processes would have started (ours: about a second)


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
    with Processes[list[str], tuple[Ids, Lengths]](partial(_encoding, spec), workers, "a tokenizer") as pool:
        waiting: deque[Tag] = deque()
        for texts, tag in itertools.chain(head, stream):
            if not pool.room:
                yield (*pool.receive(), waiting.popleft())
            pool.send(texts)
            waiting.append(tag)
        while waiting:
            yield (*pool.receive(), waiting.popleft())


def _encoding(spec: EncoderSpec) -> Callable[[Sequence[str]], tuple[Ids, Lengths]]:
    return spec.build().encode


def _in_threads(spec: EncoderSpec, stream: Iterator[tuple[list[str], Tag]], workers: int) -> Iterator[tuple[Ids, Lengths, Tag]]:
    encoder = spec.build()
    waiting: deque[tuple[Future[tuple[Ids, Lengths]], Tag]] = deque()
    with ThreadPoolExecutor(workers, "encode") as pool:
        try:
            for texts, tag in stream:
                if len(waiting) == workers * AHEAD:
                    done, first = waiting.popleft()
                    yield (*done.result(), first)
                waiting.append((pool.submit(encoder.encode, texts), tag))
            while waiting:
                done, first = waiting.popleft()
                yield (*done.result(), first)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
