"""Worker processes that end with whoever started them: after a kill -9 nobody is left to write beside the run that goes on."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """From now on this process ends at once when the process that started it does: a worker of a killed run must not finish its task.

    For processes of ``multiprocessing`` under any start method. (A fork server is no help: each worker holds the pipe by whose end it
    would notice, so that server and workers would keep each other alive.) Raises RuntimeError in a process of another making.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for worker processes of multiprocessing, this is none")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
