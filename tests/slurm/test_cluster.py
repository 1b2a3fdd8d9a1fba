"""The cluster itself: it is real, and it leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing, wait_until

ROOT = Path(__file__).parents[2]


def test_nodes_have_names_and_addresses_of_their_own(cluster: Cluster) -> None:
    said = cluster.run("srun", "--nodes=2", "--ntasks-per-node=2", "--label", "bash", "-c", "echo $(hostname) $(ip -brief -4 address show eth0)").stdout
    lines = sorted(said.splitlines())
    assert [line.split()[:2] for line in lines] == [["0:", "node1"], ["1:", "node1"], ["2:", "node2"], ["3:", "node2"]]
    assert "10.213.0.1/" in lines[0] and "10.213.0.2/" in lines[3]


def test_killed_with_its_starter_it_leaves_no_process_and_no_network(tmp_path: Path) -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    mark = f"snow-mark-{tmp_path.name}-{os.getpid()}"
    said = tmp_path / "said"
    with said.open("w") as out:  # a file: a pipe's other end would stay open in what is to be killed
        command = [sys.executable, "-m", "tests.slurm.cluster", "1", "srun", "bash", "-c", f"echo up; exec -a {mark} sleep 600"]
        starter = subprocess.Popen(command, cwd=ROOT, stdout=out, start_new_session=True)
    interfaces = sorted(os.listdir("/sys/class/net"))
    try:
        wait_until(lambda: "up" in said.read_text(), 90, "the job to run", said.read_text)
        assert _processes(mark)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    wait_until(lambda: not _processes(mark), 30, "the job to be gone", lambda: str(_processes(mark)))
    assert sorted(os.listdir("/sys/class/net")) == interfaces
    mounts = Path("/proc/self/mounts").read_text()
    assert "snow-slurm" not in mounts


def _processes(mark: str) -> list[str]:
    """Command lines with ``mark`` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if mark in line and "tests.slurm.cluster" not in line:
            found.append(line)
    return found
