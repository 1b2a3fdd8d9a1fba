"""Worker processes that end with whoever started them: after a kill -9 nobody is left to write beside the run that goes on."""

from __future__ import annotations

import os
import threading
import time

_POLL = 0.1  # seconds; ours: a new run takes longer than that to start


def end_with_parent() -> None:
    """From now on this process ends within a tenth of a second of its parent: a worker of a killed run must not finish its task.

    A worker of a fork server is the server's child, and that ends when the process that started it does.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
