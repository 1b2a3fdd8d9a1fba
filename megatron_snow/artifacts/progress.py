"""Progress with rate and ETA: a live bar on a terminal, plain lines in a log file, events where ``--json`` asks for them (``output``)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TextIO, TypeVar

from megatron_snow.artifacts.output import event, form
from megatron_snow.artifacts.units import format_count, format_seconds

T = TypeVar("T")
_LINE_EVERY = 10.0  # seconds between lines in a log file at first (ours: readable in a job's log)
_LINE_MOST = 600.0  # later; a line grows rarer as a step grows longer (ours: a month's log stays under 5,000 lines)
_LINE_SHARE = 1 / 60  # of the time a step has taken that passes between two lines
_BAR_EVERY = 0.2  # seconds between redraws on a terminal


class Progress:
    """``with Progress("scoring", total=n, unit="files") as bar: bar.advance()``.

    ``total`` may be None when it is not known; then no ETA is shown. ``note`` is free text kept at the end of the line.
    """

    def __init__(self, label: str, total: float | None = None, unit: str = "", stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0.0, ""
        self.stream = stream or sys.stderr
        self._form = form()
        self._live = self._form == "text" and self.stream.isatty()
        self._start = self._last = time.monotonic()
        self._first: tuple[float, float] | None = None
        """When the first units were counted, and how many: what came before them, workers starting and models loading, says nothing of what is left."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._write(final=True)
        elif self._live:
            self.stream.write("\n")

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Count ``amount`` more units as done and show the line when one is due."""
        self.done += amount
        if note is not None:
            self.note = note
        now = time.monotonic()
        if self._first is None and self.done:
            self._first = (now, self.done)
        if now - self._last >= (_BAR_EVERY if self._live else min(max(_LINE_EVERY, (now - self._start) * _LINE_SHARE), _LINE_MOST)):
            self._write()

    def _left(self) -> float | None:
        """Seconds to go at the rate since the first units were counted; None where no total or no second count is known, or all is done."""
        if not self.total or self._first is None or self.done >= self.total:
            return None
        begin, counted = self._first
        if self.done <= counted:
            return None
        return (self.total - self.done) * (time.monotonic() - begin) / (self.done - counted)

    def line(self) -> str:
        """The line as it reads now."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / seconds
        parts = [f"  {self.label}: {format_count(self.done)}"]
        if self.total:
            parts[0] += f"/{format_count(self.total)}"
        parts[0] += f" {self.unit}".rstrip()
        if self.total:
            parts.append(f"{100 * self.done / self.total:.0f} %")
        parts.append(f"{format_count(float(f'{rate:.3g}'))} {self.unit or 'items'}/s")
        left = self._left()
        if left is not None:
            parts.append(f"ETA {format_seconds(left)}")
        else:
            parts.append(format_seconds(seconds))
        return ", ".join(parts) + (f"  {self.note}" if self.note else "")

    def values(self, final: bool) -> dict[str, object]:
        """The line as an event's values; ``rate`` in units a second, ``eta`` in seconds where it can be told."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / seconds
        eta = 0.0 if final else self._left()
        times = {"seconds": round(seconds, 3), "rate": float(f"{rate:.4g}"), "eta": None if eta is None else round(eta, 1)}
        return {"label": self.label, "done": self.done, "total": self.total, "unit": self.unit, **times, "finished": final, "note": self.note}

    def _write(self, final: bool = False) -> None:
        self._last = time.monotonic()
        if self._form == "quiet":
            return
        if self._form == "json":
            event("progress", self.values(final), self.stream)
        elif self._live:
            self.stream.write("\r\x1b[K" + self.line() + ("\n" if final else ""))
        else:
            self.stream.write(self.line() + "\n")
        self.stream.flush()


def track(items: Iterable[T], label: str, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yield ``items`` and show progress; ``total`` defaults to ``len(items)`` where it has one."""
    with Progress(label, total if total is not None else (len(items) if isinstance(items, Sized) else None), unit) as bar:
        for item in items:
            yield item
            bar.advance()


def say(message: str) -> None:
    """One line to the user, beside the progress (standard error, so that standard output stays for results)."""
    if form() == "json":
        event("message", {"text": message.strip()})
    elif form() == "text":
        print(message, file=sys.stderr, flush=True)
