"""The shipped batch scripts on a real cluster, as a user submits them but for the numbers of nodes, tasks and GPUs."""

from __future__ import annotations

from pathlib import Path

from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.jobs import ROOT, log, longer, path, resumed_to, submit, wait_for_steps


def test_a_chain_goes_on_after_a_preemption(cluster: Cluster, work: Path) -> None:
    """Two phases in a chain; the first is told to stop in mid-run, saves, is queued again and resumes under its own number."""
    steps = 60
    general, continued = submit(cluster, work, *longer(steps), PHASES="general continued", PREFLIGHT="no")
    assert "Dependency" in str(cluster.job(continued)) and cluster.job(continued)["JobState"] == "PENDING"
    wait_for_steps(work, general, 1)
    cluster.run("scancel", "--signal=USR1", "--batch", general)  # what Slurm does for --signal=B:USR1@... at its time
    wait_until(lambda: cluster.job(general)["Restarts"] == "1", 120, "the job to be queued again", lambda: log(work, general))
    assert cluster.finished(general)["JobState"] == "COMPLETED", log(work, general)
    said = log(work, general)
    assert "told to stop: saving" in said and "train general: goes on after step" in said
    assert "ended with 3, queued again" in said
    assert said.count("was stopped by a signal and saved") == 1  # one message, of rank 0
    assert resumed_to(work, steps)
    assert cluster.finished(continued)["JobState"] == "COMPLETED", log(work, continued)
    assert (work / "out" / "6-train" / "continued" / "manifest.json").is_file()


def test_preflight_then_one_torchrun_a_node(cluster: Cluster, work: Path) -> None:
    (job,) = submit(cluster, work, PHASES="general", LAUNCHER="torchrun")
    assert cluster.finished(job)["JobState"] == "COMPLETED", log(work, job)
    assert "pre-flight: 4 ranks on 2 nodes agree" in log(work, job)


def test_arrows_of_one_process_are_a_job(cluster: Cluster, work: Path) -> None:
    """What is done is skipped; an arrow that cannot be made ends the job with its code."""
    options = ("--cpus-per-task=1", f"--output={work}/%x-%j.log", "examples/slurm/arrows.sbatch", work / "recipe.yaml")
    done = cluster.submit(*options, "corpus tokenize", "--out", work / "out", cwd=ROOT, PATH=path())
    assert cluster.finished(done)["JobState"] == "COMPLETED", log(work, done)
    assert log(work, done).count("done before") == 2
    early = cluster.submit(*options, "convert report", "--out", work / "out", cwd=ROOT, PATH=path())
    assert cluster.finished(early)["ExitCode"] == "2:0", log(work, early)
    assert "run `snow train` first" in log(work, early)


def test_a_failing_rank_ends_all_with_its_message_and_code(cluster: Cluster, work: Path) -> None:
    """Node 2 lacks the tokens: its ranks fail, the others would wait for them."""
    empty = work / "empty"
    empty.mkdir()
    tokens = work / "out" / "5-tokenize"
    cluster.on(2, "mount", "--bind", empty, tokens)
    try:
        (job,) = submit(cluster, work, PHASES="general", PREFLIGHT="no")
        ended = cluster.finished(job)
    finally:
        cluster.on(2, "umount", tokens)
    said = log(work, job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "2:0"), said
    assert said.count("snow: ") == 1 and "snow: rank 2 on node2: " in said.replace("rank 3", "rank 2") and "Traceback" not in said


def test_preflight_names_the_bad_nodes(cluster: Cluster, work: Path) -> None:
    """Node 2 cannot write to the output folder, node 3 has another torch."""
    out, other = work / "out", work / "other"
    (other / "torch-1.0.dist-info").mkdir(parents=True)
    (other / "torch-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    cluster.on(2, "mount", "--bind", out, out)
    cluster.on(2, "mount", "-o", "remount,ro,bind", out)
    start = f'[ $SLURM_NODEID != 2 ] || export PYTHONPATH={other}:${{PYTHONPATH:-}}; exec snow preflight "$@"'
    try:
        srun = ("srun", "--nodes=3", "--ntasks-per-node=1", "--kill-on-bad-exit=0")
        done = cluster.run(*srun, "bash", "-c", start, "_", work / "recipe.yaml", "--out", out, check=False, PATH=path())
    finally:
        cluster.on(2, "umount", out)
    assert done.returncode == 2, done.stderr
    said = [line.strip() for line in done.stderr.splitlines() if not line.startswith("srun:")]
    assert said[0] == "snow: rank 0 on node1: pre-flight found"
    assert f"node2: cannot write to {out}: Read-only file system" in said
    assert any(line.startswith("node3: has torch 1.0, most have ") for line in said)
    assert not any(line.startswith("node1") for line in said)
    assert not list(out.glob(".preflight*"))
