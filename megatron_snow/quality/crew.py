"""An encoder's packs on several CPUs: the same vectors, bit for bit, whatever the number of workers.

A pack is the unit of work: what is in it is fixed before anybody computes it. On a CPU workers are processes with
one thread each; on a GPU there is one, this process, and the CPUs' part is to have the next window tokenised (``ahead``).
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

import numpy as np

from megatron_snow.artifacts.processes import Processes, cpus
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.packs import Pack
from megatron_snow.quality.settings import AnnotateSettings

T = TypeVar("T")
_WORTH_STARTING = 12.0  # seconds of work left in a call that starting processes is worth (ours: importing torch and reading the model take 4 to 6)
_TASK = 4  # packs a task: some tenths of a second (ours), so that workers end a window together
_DEPTH = 2  # windows made ready while one is computed (ours)


@dataclass
class Computed:
    """What an encoder has done so far."""

    sections: int = 0
    distinct: int = 0
    """Sections that were computed; the others are copies of one of the same window."""
    tokens: int = 0
    """Tokens of the distinct sections."""
    with_padding: int = 0
    """Tokens the encoder computed for them, the dummies of part packs included."""

    def __str__(self) -> str:
        waste = 100 * (1 - self.tokens / self.with_padding) if self.with_padding else 0.0
        return f"{self.sections} sections, {self.sections - self.distinct} of them copies, {self.tokens} tokens and {waste:.1f} % padding"


class EncoderCrew:
    """``embed`` by this process, and by ``workers`` others once a call turns out to be long.

    ``with EncoderCrew(settings, encoder) as crew``: the processes end with it.
    """

    def __init__(self, settings: AnnotateSettings, encoder: SectionEncoder, folder: str | None = None) -> None:
        """``folder``: where the encoder's weights are, if not where the settings say (a fine-tuned one)."""
        self.encoder = encoder
        self.computed = Computed()
        self._settings, self._folder = settings, folder
        self._workers = (settings.workers or cpus()) if encoder.device.type == "cpu" else 1
        self._processes: Processes[list[Pack], list[np.ndarray]] | None = None

    def __enter__(self) -> EncoderCrew:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._processes is not None:
            self._processes.__exit__(kind, value, trace)

    def embed(self, sections: list[np.ndarray], progress: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """As ``SectionEncoder.embed``. Raises SnowError also where a worker was killed."""
        plan = self.encoder.plan(sections)
        self.computed.sections += plan.sections
        self.computed.distinct += len(plan.copies)
        self.computed.tokens += plan.tokens
        self.computed.with_padding += plan.with_padding
        return self.encoder.embed(plan, progress, self._compute)

    def _compute(self, packs: list[Pack]) -> Iterator[np.ndarray]:
        if self._workers == 1:
            yield from self.encoder.in_turn(packs)
            return
        start, done = time.monotonic(), 0
        while done < len(packs) and self._processes is None:
            yield self.encoder.forward(packs[done])
            done += 1
            left = (time.monotonic() - start) / done * (len(packs) - done)
            if left > _WORTH_STARTING:
                self._processes = Processes(partial(_forward_all, self._settings, self._folder), self._workers, "an encoder")
        if self._processes is not None:
            tasks = (packs[first : first + _TASK] for first in range(done, len(packs), _TASK))
            yield from itertools.chain.from_iterable(self._processes.map(tasks))


def _forward_all(settings: AnnotateSettings, folder: str | None) -> Callable[[list[Pack]], list[np.ndarray]]:
    """In a worker: the encoder, as a function of packs."""
    encoder = SectionEncoder(settings, folder)
    return lambda packs: [encoder.forward(pack) for pack in packs]


def ahead(items: Iterable[T], depth: int = _DEPTH) -> Iterator[T]:
    """The same items, made by a thread up to ``depth`` ahead of their use; what making one raises is raised here."""
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stopped.set()
        thread.join()
