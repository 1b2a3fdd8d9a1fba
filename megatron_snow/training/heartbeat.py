"""A rank that hangs ends the run with its name, instead of leaving the others waiting for ever.

Each rank's thread writes a beat into a file of the training folder and looks at the others': rank 0 at all of them,
the others at rank 0. Files, because they work before the process groups exist, on gloo and on NCCL alike, and say
nothing wrong when a process is frozen, its machine is gone, or it sits in a collective that never ends. A beat has
two numbers: one that the thread counts up (the process runs), one that the training counts up (it gets on).
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from megatron_snow.artifacts.publish import write_atomically

_BEATS = 20  # beats within the limit (ours: a few may be lost to a slow disk, and 1024 small files an interval are nothing to a cluster's)
_FASTEST, _SLOWEST = 0.2, 10.0  # seconds between beats (ours: tests; to hear a verdict soon)
_VERDICT = "verdict"


class Heartbeat:
    """The beats of one rank, from entering the context to leaving it.

    ``end`` is called in the watching thread with a message that names the ranks at fault; it must end the process.
    """

    def __init__(self, folder: Path, rank: int, world: int, limit_seconds: float, end: Callable[[str], None]) -> None:
        self._folder, self._rank, self._world, self._limit, self._end = folder, rank, world, limit_seconds, end
        self._interval = min(max(limit_seconds / _BEATS, _FASTEST), _SLOWEST)
        self._progress, self._where, self._count = 0, "starting", 0
        self._stop = threading.Event()
        self._old_verdict: str | None = None
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._old_verdict = self._read(_VERDICT)  # of an earlier run that could not clean up
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        (self._folder / self._name(self._rank)).unlink(missing_ok=True)
        if self._rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)  # with what killed runs left; the others need none of it to leave

    def at(self, where: str) -> None:
        """The training got on and is now at ``where`` (``step 12: reading samples``); call it from the training's own thread."""
        self._where = where
        self._progress += 1

    def _name(self, rank: int) -> str:
        return f"rank-{rank}"

    def _read(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text()
        except OSError:
            return None

    def _beat(self) -> None:
        self._count += 1
        beat = {"count": self._count, "progress": self._progress, "where": self._where, "process": os.getpid()}
        with suppress(FileNotFoundError):  # rank 0 has left and cleared the folder away
            write_atomically(self._folder / self._name(self._rank), json.dumps(beat).encode())

    def _watch(self) -> None:
        watched = range(1, self._world) if self._rank == 0 else range(1)
        table = _Table(self._limit, time.monotonic())
        woke = time.monotonic()
        while not self._stop.wait(self._interval):
            now = time.monotonic()
            if now - woke > self._limit / 2 + self._interval:  # this process was itself frozen or starved: it knows nothing of the others' silence
                table = _Table(self._limit, now)
            woke = now
            self._beat()
            verdict = self._read(_VERDICT)
            if verdict is not None and verdict != self._old_verdict:
                self._end(verdict)
            seen = {rank: _parse(self._read(self._name(rank))) for rank in watched}
            if self._rank == 0:  # only rank 0 sees who is behind when nothing moves
                seen[0] = (self._count, self._progress, self._where)
            if message := table.look(seen, now, standstill=self._rank == 0):
                self._tell(message)
                self._end(message)

    def _tell(self, message: str) -> None:
        """Leave the message for the others. Two ranks may come to it at once: each writes a file of its own, the later one stays."""
        own = self._folder / f"{_VERDICT}-{self._rank}"
        with suppress(OSError):  # a full disk, or rank 0 has cleared the folder away: this rank must end all the same
            write_atomically(own, message.encode())
            os.replace(own, self._folder / _VERDICT)


Beat = tuple[int, int, str]
"""(count of the process, progress of the training, where it is)."""


def _parse(text: str | None) -> Beat | None:
    if text is None:
        return None
    try:
        beat = json.loads(text)
        return int(beat["count"]), int(beat["progress"]), str(beat["where"])
    except (ValueError, KeyError, TypeError):
        return None


class _Table:
    """When each rank was last seen to move, by this process's clock alone."""

    def __init__(self, limit: float, now: float) -> None:
        self._limit, self._start = limit, now
        self._last: dict[int, Beat] = {}
        self._alive: dict[int, float] = {}
        self._moved = now

    def look(self, beats: dict[int, Beat | None], now: float, standstill: bool = True) -> str | None:
        """Take in the latest beats; what is wrong, if something is: a silent rank, and a ``standstill`` of all where that is asked for."""
        silent, left = [], []
        for rank, beat in beats.items():
            before = self._last.get(rank)
            if beat is not None and beat != before:
                self._alive[rank] = now
                if before is None or beat[1] != before[1]:
                    self._moved = now
                self._last[rank] = beat
            if beat is None and before is not None:
                left.append(rank)  # it finished, or is just replacing its file
            elif now - self._alive.get(rank, self._start) > self._limit:
                silent.append(rank)
        if silent:
            return f"{_named(silent)} not answered for {self._limit:g} s ({'; '.join(self._place(rank) for rank in silent)}): frozen, or its machine is gone"
        if not standstill or left or now - self._moved <= self._limit:
            return None
        least = min(beat[1] for beat in self._last.values())
        behind = [rank for rank, beat in self._last.items() if beat[1] == least]
        everybody = len(behind) == len(self._last)
        who = "all ranks wait" if everybody else _named(behind) + " not got on"
        return f"nothing moved for {self._limit:g} s: {who} ({'; '.join(self._place(rank) for rank in behind[:8])})"

    def _place(self, rank: int) -> str:
        return f"rank {rank} was last at {self._last[rank][2]}" if rank in self._last else f"rank {rank} never started"


def _named(ranks: list[int]) -> str:
    return f"rank {ranks[0]} has" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} have"
