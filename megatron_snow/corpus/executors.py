"""Where the parallel steps of the corpus run; changes nothing in the result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Bytes


class LocalExecutor(Settings):
    """Processes of this machine; how many, ``workers`` says."""

    kind: Literal["local"] = "local"


class SlurmExecutor(Settings):
    """An array of Slurm jobs, sent off and awaited by the process that runs the recipe (on a login node, or in a job).

    The output folder has to be one that all nodes see; the jobs run the Python that sent them, with its environment.
    """

    kind: Literal["slurm"] = "slurm"
    partition: str = Field(min_length=1)
    time: str = Field(default="04:00:00", pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")  # ours: a task of 64 MiB takes minutes
    """Time limit of a job, as sbatch takes it."""
    cpus: int = Field(default=1, ge=1)
    """Of each job."""
    memory: Bytes = Field(default=4 * 2**30, ge=2**30)  # ours: four times what a task of 64 MiB was seen to take
    """For each CPU; Slurm is told whole GiB."""
    jobs: int = Field(default=0, ge=0)
    """At once; 0 sets no limit."""
    tasks_per_job: int = Field(default=1, ge=1)
    """Tasks a job works off one after the other: more make fewer, longer jobs."""
    array: int = Field(default=1001, ge=1)  # Slurm's own MaxArraySize
    """Jobs of one array at most; more tasks make further arrays."""
    attempts: int = Field(default=3, ge=1)
    """Times that lost tasks are sent off, the first included."""
    options: dict[str, str] = {}  # noqa: RUF012 - settings are frozen
    """Further options of sbatch: ``{account: project, constraint: cpu}``."""


class RayExecutor(Settings):
    """Tasks on a Ray cluster that is there already (the extra ``ray``); RAY_ADDRESS says where, else one is started on this machine."""

    kind: Literal["ray"] = "ray"
    cpus: int = Field(default=1, ge=1)
    """Reserved for each task."""
    memory: Bytes = Field(default=4 * 2**30, ge=2**30)
    """Reserved for each CPU."""
    jobs: int = Field(default=0, ge=0)
    """At once; 0 sets no limit."""


Executor = Annotated[LocalExecutor | SlurmExecutor | RayExecutor, Field(discriminator="kind")]
