"""A request to stop: Slurm's preemption, a user's Ctrl-C. The step in progress is finished and saved first."""

from __future__ import annotations

import signal
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """Remembers that a stop was asked for; ``requested`` is read between steps."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Take over SIGTERM, SIGINT and SIGUSR1 in this process (main thread only)."""
        for number in STOPPING:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
