"""Runs steps on datatrove's executors (this machine's processes, Slurm, Ray) with one progress line.

What is wrapped here: datatrove's completion markers do not know the configuration, so its folder must lie inside a work
folder that is keyed by it; its log of every step goes to that folder and not to the user's terminal; tasks of one process
share no state; and a worker that is killed costs its task another try, where datatrove's pool waits for it for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats
from loguru import logger

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.orphans import end_with_parent
from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.corpus.executors import LocalExecutor, RayExecutor, SlurmExecutor

_POLL = 0.5  # seconds between looks at the completion markers
_BREAKS = 3  # times in a row that workers may die without a task coming to its end (ours: twice is bad luck)


class FreshSteps(PipelineExecutor):  # type: ignore[misc] # datatrove ships no types
    """Each task gets a copy of the steps, with what they share (a funnel) shared inside the task only; it tells the terminal errors only."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        # Its lines on what goes well, tracebacks of errors that are raised to the user anyway, complaints that a full disk takes no log.
        logger.disable("datatrove")
        steps: list[PipelineStep] = self.pipeline
        self.pipeline: list[PipelineStep] = deepcopy(steps)
        try:
            # datatrove takes local rank 0 as the one that prints its whole log.
            return super()._run_for_rank(rank, local_rank + 1, node_rank)
        finally:
            self.pipeline = steps


class _Local(FreshSteps, LocalPipelineExecutor):  # type: ignore[misc]
    """The local executor on a pool that notices dead workers."""

    def run(self) -> None:
        """Run what is not completed. Raises what a task raises, and SnowError where workers die again and again."""
        self.save_executor_as_json()
        breaks, left = 0, self.get_incomplete_ranks()
        if self.workers == 1:
            for rank in left:
                self._run_for_rank(rank)
            return
        while left:
            died = self._pooled(left)
            before, left = len(left), self.get_incomplete_ranks()
            if not died:
                break
            breaks = breaks + 1 if len(left) == before else 0
            if breaks == _BREAKS:
                raise SnowError(
                    f"worker processes were killed {_BREAKS} times before any of the {len(left)} tasks left was done; is memory short (dmesg says so)? "
                    "Lower corpus.workers, or run where there is more; what is done stays done"
                )
            say(f"  a worker process was killed; {len(left)} tasks go on")

    def _pooled(self, ranks: Sequence[int]) -> bool:
        """Run tasks in processes; returns whether one of these was killed."""
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(min(self.workers, len(ranks)), mp_context=context, initializer=end_with_parent) as pool:
            futures = [pool.submit(self._run_for_rank, rank) for rank in ranks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BrokenProcessPool:
                return True
            finally:
                for future in futures:
                    future.cancel()
        return False


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_steps(
    steps: Sequence[PipelineStep],
    tasks: int,
    workers: int,
    logs: Path,
    label: str,
    executor: LocalExecutor | SlurmExecutor | RayExecutor = LocalExecutor(),  # noqa: B008 - frozen
    setting: str = "corpus.executor",
) -> None:
    """Run ``steps`` on every task, skipping those that a killed run has completed; ``workers`` (local) 0 is one a core.

    ``setting``: where the user states the executor.

    Raises what a task raises, and SnowError where tasks are lost again and again or the executor is not to be had.
    """
    from megatron_snow.corpus.cluster import run_on_ray, run_on_slurm

    logger.disable("datatrove")
    try:
        with _watched(logs / "completions", tasks, label):
            if isinstance(executor, SlurmExecutor):
                run_on_slurm(steps, tasks, logs, label, executor, setting)
            elif isinstance(executor, RayExecutor):
                run_on_ray(steps, tasks, logs, executor, setting)
            else:
                _Local(list(steps), tasks=tasks, workers=min(workers or cores(), tasks), logging_dir=str(logs)).run()
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
