"""Jobs of the shipped scripts, and what they leave."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from megatron_snow.training.records import read_rows
from tests.slurm.cluster import Cluster, wait_until

ROOT = Path(__file__).parents[2]
SIZE = ("--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1")
BATCH = 8 * 32  # tokens a step of recipe.yaml


def path() -> str:
    """PATH with the ``snow`` of this Python first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def submit(cluster: Cluster, work: Path, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> list[str]:
    """submit.sh for the folder ``work``; returns the jobs."""
    command = ["examples/slurm/submit.sh", work / "recipe.yaml", *SIZE, f"--output={work}/%x-%j.log", *options, "--", "--out", work / "out", *arguments]
    said = cluster.run(*map(str, command), cwd=ROOT, PATH=path(), AFTER="", **environment).stdout
    return [line.split()[0] for line in said.splitlines()]


def log(work: Path, job: str) -> str:
    """What a job wrote."""
    return "".join(file.read_text() for file in work.glob(f"*-{job}.log"))


def rows(work: Path, phase: str) -> list[dict]:
    """A phase's metrics, published or not."""
    folder = work / "out" / "6-train" / phase
    return read_rows((folder if folder.exists() else folder.with_name(f"{phase}.building")) / "metrics.jsonl")


def longer(steps: int) -> tuple[str, ...]:
    """Options for a first phase of so many steps, saved only when it is told to stop or ends."""
    return ("--set", f"train.phases.general.tokens={steps * BATCH}", "--set", "train.checkpoint.every=100000 steps")


def wait_for_steps(work: Path, job: str, steps: int) -> None:
    """Until the first phase has taken so many steps."""
    wait_until(lambda: len(rows(work, "general")) >= steps, 300, "training to begin", lambda: log(work, job))


def resumed_to(work: Path, steps: int) -> bool:
    """Whether the first phase has every step once."""
    return [row["step"] for row in rows(work, "general")] == list(range(1, steps + 1))
