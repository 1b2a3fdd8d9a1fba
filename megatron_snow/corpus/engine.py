"""Runs steps on datatrove's local executor, in processes, with one progress line.

What is wrapped here: datatrove's completion markers do not know the configuration, so its folder must lie inside a work
folder that is keyed by it; its log of every step goes to that folder and not to the user's terminal.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats
from loguru import logger

from megatron_snow.artifacts.orphans import end_with_parent
from megatron_snow.artifacts.progress import Progress

_POLL = 0.5  # seconds between looks at the completion markers


class _Executor(LocalPipelineExecutor):  # type: ignore[misc] # datatrove ships no types
    """The local executor; a task tells the terminal errors only, and a worker ends with the run that started it."""

    owner = 0
    """The process that runs the executor."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        if os.getpid() != self.owner:
            end_with_parent()
        logger.disable("datatrove.executor")  # its "n tasks completed" lines, and tracebacks of errors that are raised to the user anyway
        # datatrove takes local rank 0 as the one that prints its whole log.
        return super()._run_for_rank(rank, local_rank + 1, node_rank)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_steps(steps: Sequence[PipelineStep], tasks: int, workers: int, logs: Path, label: str) -> None:
    """Run ``steps`` on every task, skipping those that a killed run has completed; ``workers`` 0 is one a core.

    Each task gets a copy of the steps, with what they share (a funnel) shared inside the task only.
    """
    executor = _Executor(list(steps), tasks=tasks, workers=min(workers or cores(), tasks), logging_dir=str(logs))
    executor.owner = os.getpid()
    logger.disable("datatrove")
    try:
        with _watched(logs / "completions", tasks, label):
            executor.run()
    finally:
        logger.enable("datatrove")


@contextmanager
def _watched(completions: Path, tasks: int, label: str) -> Iterator[None]:
    """Show how many completion markers there are while the body runs."""
    stop = threading.Event()

    def watch(bar: Progress) -> None:
        finished = False
        while not finished:
            finished = stop.wait(_POLL)
            done = sum(1 for _ in completions.glob("*")) if completions.is_dir() else 0
            bar.advance(done - bar.done)

    with Progress(label, total=tasks, unit="tasks") as bar:
        thread = threading.Thread(target=watch, args=(bar,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
