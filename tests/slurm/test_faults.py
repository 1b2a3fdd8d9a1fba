"""What befalls jobs on a cluster: each time the phase ends with every step taken once, or as it was told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_snow.training.records import read_rows
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.jobs import ROOT, log, longer, path, resumed_to, rows, submit, wait_for_steps

pytestmark = pytest.mark.soak


def completed(cluster: Cluster, work: Path, job: str, steps: int, restarts: int = 1) -> None:
    ended = cluster.finished(job, 600)
    assert ended["JobState"] == "COMPLETED", log(work, job)
    assert int(ended["Restarts"]) >= restarts, log(work, job)
    assert resumed_to(work, steps), log(work, job)


def test_a_lost_node(cluster: Cluster, work: Path) -> None:
    """Slurm notices, queues the job again, and it goes on from its last checkpoint on the nodes that are left."""
    steps = 200
    (job,) = submit(cluster, work, *longer(steps), "--set", "train.checkpoint.every=10 steps", PHASES="general", PREFLIGHT="no")
    wait_for_steps(work, job, 15)
    try:
        cluster.pull_the_plug(2)
        wait_until(lambda: cluster.job(job)["Restarts"] == "1", 180, "Slurm to notice", lambda: log(work, job))
        completed(cluster, work, job, steps)
        assert "node[1,3]" in log(work, job) and "goes on after step" in log(work, job)
    finally:
        cluster.start(2)
    wait_until(lambda: "idle" in cluster.run("sinfo", "-h", "-N", "-n", "node2", "-p", "main", "-o", "%t").stdout, 60, "the node to come back")


def test_the_time_limit(cluster: Cluster, work: Path) -> None:
    """Slurm signals the script before the limit; minutes are its unit, and it looks every half of one."""
    steps = 1200
    (job,) = submit(cluster, work, *longer(steps), options=("--time=2", "--signal=B:USR1@60"), PHASES="general", PREFLIGHT="no")
    completed(cluster, work, job, steps)
    assert "told to stop: saving" in log(work, job)


def test_a_preemption_by_a_more_urgent_job(cluster: Cluster, work: Path) -> None:
    steps = 200
    (job,) = submit(cluster, work, *longer(steps), PHASES="general", PREFLIGHT="no")
    wait_for_steps(work, job, 3)
    urgent = cluster.submit("--partition=urgent", "--nodes=3", "--ntasks-per-node=64", "--output=/dev/null", "--wrap=sleep 3")
    assert cluster.finished(urgent)["JobState"] == "COMPLETED"
    completed(cluster, work, job, steps)
    assert "told to stop: saving" in log(work, job) and "goes on after step" in log(work, job)


def test_torchrun_is_told_to_stop(cluster: Cluster, work: Path) -> None:
    steps = 100
    (job,) = submit(cluster, work, *longer(steps), PHASES="general", PREFLIGHT="no", LAUNCHER="torchrun")
    wait_for_steps(work, job, 3)
    cluster.run("scancel", "--signal=USR1", "--batch", job)
    completed(cluster, work, job, steps)
    assert "goes on after step" in log(work, job)


def test_a_killed_rank(cluster: Cluster, work: Path) -> None:
    """As by the kernel for a lack of memory: the others end too, and where the job had run for a while it is queued again."""
    steps = 100
    (job,) = submit(cluster, work, *longer(steps), "--set", "train.checkpoint.every=10 steps", PHASES="general", PREFLIGHT="no", LOST_AFTER="0")
    wait_for_steps(work, job, 15)
    cluster.on(2, "bash", "-c", "kill -KILL $(grep -lz ^SLURM_PROCID=3 /proc/[0-9]*/environ | cut -d/ -f3)")
    completed(cluster, work, job, steps)
    assert "Killed" in log(work, job) and "goes on after step" in log(work, job)


def test_a_cancelled_job_does_not_come_back(cluster: Cluster, work: Path) -> None:
    (job,) = submit(cluster, work, *longer(2000), PHASES="general", PREFLIGHT="no")
    wait_for_steps(work, job, 3)
    cluster.run("scancel", job)
    assert cluster.finished(job, 60)["JobState"] == "CANCELLED"
    wait_until(lambda: not cluster.run("squeue", "--noheader").stdout, 60, "the queue to be empty")
    assert cluster.job(job)["Restarts"] == "0"


def test_two_jobs_share_a_node(cluster: Cluster, work: Path, prepared: Path) -> None:
    """Two runs of two ranks on the same node at the same time find their own peers."""
    jobs = []
    for name in ("one", "two"):
        out = work / name
        cluster.run("cp", "-r", prepared / "out", out)
        jobs.append(
            cluster.submit(
                "--nodes=1", "--nodelist=node1", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1", "--mem=2G", f"--output={work}/%x-%j.log",
                "examples/slurm/train.sbatch", work / "recipe.yaml", "general", "--out", out, cwd=ROOT, PATH=path(),
            )
        )  # fmt: skip
    wait_until(lambda: cluster.run("squeue", "--noheader", "--states=RUNNING").stdout.count("node1") == 2, 60, "both to run")
    for job in jobs:
        assert cluster.finished(job)["JobState"] == "COMPLETED", log(work, job)
        assert "pre-flight: 2 ranks on 1 nodes agree" in log(work, job)
    losses = [[row["loss"] for row in read_rows(work / name / "6-train" / "general" / "metrics.jsonl")] for name in ("one", "two")]
    assert len(losses[0]) == 8 and losses[0] == losses[1]
    assert rows(work, "general") == []
