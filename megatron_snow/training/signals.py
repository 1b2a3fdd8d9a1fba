"""A request to stop: Slurm's preemption, a user's Ctrl-C. The step in progress is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from megatron_snow.artifacts.errors import Stopped
from megatron_snow.artifacts.output import last_words

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """Remembers that a stop was asked for; ``requested`` is read between steps."""

    def __init__(self) -> None:
        self.requested = False
        self._heard: float | None = None
        self._deadline: float | None = None
        self._timer: threading.Timer | None = None

    def listen(self) -> None:
        """Take over SIGTERM, SIGINT and SIGUSR1 in this process (main thread only)."""
        for number in STOPPING:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._heard is None:
            self._heard = time.monotonic()

    def give(self, grace_seconds: float) -> None:
        """From the signal on (from now, where another rank heard it), end the process after ``grace_seconds`` whatever it is doing."""
        if self._timer is not None:
            return
        now = time.monotonic()
        self._deadline = (self._heard if self._heard is not None else now) + grace_seconds
        self._timer = threading.Timer(max(self._deadline - now, 0.0), self._expire)
        self._timer.daemon = True
        self._timer.start()

    @property
    def left(self) -> float:
        """Seconds of grace that are left; infinite before ``give``."""
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def relax(self) -> None:
        """The work is saved: take the deadline back."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        last_words("the grace time (train.checkpoint.grace) ended before the save did: the checkpoint before it stays the newest", Stopped.exit_code)
        os._exit(Stopped.exit_code)
