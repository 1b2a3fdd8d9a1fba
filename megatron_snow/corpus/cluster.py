"""Steps on Slurm and on Ray, through datatrove's executors.

On Slurm an array of jobs is sent off and awaited; tasks that no job completed (a node was lost, a job was killed or ran
out of time) are sent off again. A driver that was killed and is started again finds its jobs by their name and waits for
them. Nothing is done twice: completed tasks are skipped, and what a task writes appears whole or not at all.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.corpus.engine import FreshSteps
from megatron_snow.corpus.executors import RayExecutor, SlurmExecutor

_POLL = 2.0  # seconds between looks at the queue (ours: a controller of a large cluster notices oftener ones)
_SILENCE = 600.0  # seconds that squeue may fail before the run ends (ours: a controller's restart takes a minute or two)
_GIB = 2**30
_TRIES = 4  # of a task on Ray whose worker or node died (Ray's own default: 3 retries)


class _Slurm(FreshSteps, SlurmPipelineExecutor):  # type: ignore[misc] # datatrove ships no types
    """The Slurm executor without its job that adds up statistics: it would wait for ever for an array that lost a job."""

    def launch_merge_stats(self) -> None:
        """Not done."""


def run_on_slurm(steps: Sequence[PipelineStep], tasks: int, logs: Path, label: str, settings: SlurmExecutor, setting: str = "corpus.executor") -> None:
    """Run the steps as jobs; ``setting``: where the user states the executor.

    Raises SnowError where Slurm is not there, refuses the jobs, or loses tasks ``attempts`` times."""
    if missing := [tool for tool in ("sbatch", "squeue") if shutil.which(tool) is None]:
        raise SnowError(f"{setting} is slurm, but {missing[0]} is not on PATH here; run on a node that can send off jobs, or take the local executor")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise SnowError("a job of an array cannot send off another array: run the recipe on a login node or in a plain job")
    name = f"snow-{re.sub('[^a-z]+', '-', label)}-{blake2b(str(logs.resolve()).encode(), digest_size=4).hexdigest()}"

    def executor() -> _Slurm:
        return _Slurm(
            list(steps), tasks=tasks, time=settings.time, partition=settings.partition, cpus_per_task=settings.cpus,
            mem_per_cpu_gb=-(-settings.memory // _GIB), workers=settings.jobs or -1, job_name=name, qos="",
            env_command=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH", sbatch_args=dict(settings.options),
            max_array_size=settings.array, max_array_launch_parallel=True, logging_dir=str(logs.resolve()), mail_type="NONE",
            tasks_per_job=settings.tasks_per_job, srun_args={"ntasks": 1},
        )  # fmt: skip

    _await_jobs(name)  # of a driver that was killed
    for attempt in range(settings.attempts):
        sent = executor()
        if not (left := sent.get_incomplete_ranks()):
            return
        if attempt:
            say(f"  {len(left)} tasks were lost; sent off again ({attempt + 1} of {settings.attempts})")
        try:
            sent.launch_job()
        except subprocess.CalledProcessError as error:
            raise SnowError(f"sbatch refused the jobs of {label} ({_said(error)}); mend {setting}. The script is {logs / 'launch_script.slurm'}") from error
        _await_jobs(name)
    if left := executor().get_incomplete_ranks():
        raise SnowError(
            f"{len(left)} of {tasks} tasks of {label} were lost {settings.attempts} times (task {left[0]} first); their logs are in {logs / 'slurm_logs'} and "
            f"{logs / 'logs'}. Mend what they say, or raise {setting}.memory or .time; what is done stays done"
        )


def _said(error: subprocess.CalledProcessError) -> str:
    text = error.stderr or error.output or b""
    return (text.decode(errors="replace") if isinstance(text, bytes) else text).strip() or str(error)


def _await_jobs(name: str) -> None:
    """Wait until no job of this name is in the queue. Raises SnowError where squeue fails for long."""
    heard = time.monotonic()
    while True:
        asked = subprocess.run(["squeue", "--noheader", f"--name={name}", "--format=%i"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            heard = time.monotonic()
            if not asked.stdout.strip():
                return
        elif time.monotonic() - heard > _SILENCE:
            raise SnowError(f"squeue has failed for {_SILENCE:.0f} s ({asked.stderr.strip()}); run again when Slurm answers: jobs {name} go on meanwhile")
        time.sleep(_POLL)


class _Ray(FreshSteps, RayPipelineExecutor):  # type: ignore[misc]
    """The Ray executor with a task of Ray's for each of ours.

    datatrove's own way (an actor, and in it a pool of one process) waits for ever for a process that was killed; Ray itself notices, and tries again.
    """

    def run(self) -> None:
        """Run what is not completed, at most ``workers`` tasks at once. Raises what a task raises; one that was lost ``_TRIES`` times stays incomplete."""
        ray: Any = importlib.import_module("ray")

        task = ray.remote(_run_rank).options(
            num_cpus=self.cpus_per_task, memory=int(self.mem_per_cpu_gb * self.cpus_per_task * _GIB), max_retries=_TRIES - 1, retry_exceptions=False
        )
        left, executor = self.get_incomplete_ranks()[::-1], ray.put(self)
        running: list[Any] = []
        while left or running:
            while left and len(running) < self.workers:
                running.append(task.remote(executor, left.pop()))
            ended, running = ray.wait(running)
            try:
                ray.get(ended)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
                continue
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from error


def _run_rank(executor: _Ray, rank: int) -> None:
    executor._run_for_rank(rank)


def run_on_ray(steps: Sequence[PipelineStep], tasks: int, logs: Path, settings: RayExecutor, setting: str = "corpus.executor") -> None:
    """Run the steps as Ray tasks. Raises SnowError where Ray is not installed, has too little to ever start a task, or tasks were lost."""
    try:
        ray: Any = importlib.import_module("ray")  # its types are partial, and differ where it is not installed
    except ImportError as error:
        raise SnowError(f"{setting} is ray, which is not installed ({error}); pip install 'megatron_snow[ray]', or take the local executor") from error

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        _refuse_too_large(ray.nodes(), settings, setting)
        executor = _Ray(
            list(steps), tasks=tasks, workers=settings.jobs or -1, logging_dir=str(logs.resolve()), cpus_per_task=settings.cpus,
            mem_per_cpu_gb=settings.memory / _GIB,
        )  # fmt: skip
        executor.run()
        if left := executor.get_incomplete_ranks():
            raise SnowError(
                f"{len(left)} of {tasks} tasks were lost {_TRIES} times on Ray (task {left[0]} first); their logs are in {logs / 'logs'}; "
                "run again: the rest is done"
            )
    finally:
        if started:
            ray.shutdown()


def _refuse_too_large(nodes: Sequence[dict[str, Any]], settings: RayExecutor, setting: str) -> None:
    """Ray would wait for ever for a node that can hold a task."""
    have = [node["Resources"] for node in nodes if node["Alive"]]
    memory = settings.memory * settings.cpus
    if not any(node.get("CPU", 0) >= settings.cpus and node.get("memory", 0) >= memory for node in have):
        largest: dict[str, float] = max(have, key=lambda node: node.get("memory", 0), default={})
        raise SnowError(
            f"no node of the Ray cluster has {settings.cpus} CPUs and {format_bytes(memory)} for a task; the largest has {largest.get('CPU', 0):.0f} and "
            f"{format_bytes(int(largest.get('memory', 0)))}: lower {setting}.cpus or .memory"
        )
