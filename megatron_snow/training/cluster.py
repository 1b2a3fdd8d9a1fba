"""What torchrun and Slurm tell a rank they started: where the ranks meet, what share of its node it has (``worker`` asks which rank it is).

Read from the environment only: a container holds no ``scontrol``. Names of variables: srun(1), "Output environment variables".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from megatron_snow.artifacts.errors import SnowError

_FIRST_PORT, _PORTS = 12_000, 20_000
"""Ports to meet at. Ours: above the services' and Slurm's own (6817 and on), below Linux's ephemeral ones (32768 and on)."""
_STEP_STRIDE = 7919  # ours, a prime: concurrent steps of one job land far from the jobs that follow it


@dataclass(frozen=True)
class Meeting:
    """Where ranks find each other; ``hosted`` where torchrun has a store there already (rank 0 opens it otherwise)."""

    host: str
    port: int
    hosted: bool


def meeting_point(environment: Mapping[str, str]) -> Meeting:
    """MASTER_ADDR and MASTER_PORT where they are set (torchrun does), else the step's first node and a port of the job's own.

    Raises:
        SnowError: where neither says.
    """
    host, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    if (host is None and nodes is None) or (port is None and "SLURM_JOB_ID" not in environment):
        raise SnowError(
            "the processes have no meeting point: MASTER_ADDR and MASTER_PORT are not set, and neither are Slurm's SLURM_STEP_NODELIST and SLURM_JOB_ID; "
            "start them with srun or torchrun, or export MASTER_ADDR=<rank 0's host> MASTER_PORT=<a free port there>"
        )
    try:
        number = int(port) if port is not None else step_port(int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_STEP_ID", 0)))
    except ValueError as error:
        raise SnowError(f"MASTER_PORT is {port!r}, SLURM_JOB_ID {environment.get('SLURM_JOB_ID')!r}: neither gives a port number ({error})") from error
    return Meeting(host or hosts(nodes or "")[0], number, environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True")


def step_port(job: int, step: int) -> int:
    """The port of a job step: another one for each of 20,000 jobs in a row, and for the steps of one job."""
    return _FIRST_PORT + (job + _STEP_STRIDE * step) % _PORTS


def hosts(nodes: str) -> list[str]:
    """Slurm's compressed list of nodes, written out: ``gpu[007-008,12],login1`` -> gpu007, gpu008, gpu12, login1.

    Raises:
        SnowError: where it is no such list.
    """
    parts = re.findall(r"(?:[^\[\],\s]|\[[0-9,-]+\])+", nodes)
    if not parts or ",".join(parts) != nodes:
        raise SnowError(f"{nodes!r} is no list of nodes as Slurm writes it; export MASTER_ADDR=<rank 0's host>")
    return [host for part in parts for host in _written_out(part)]


def _written_out(part: str) -> list[str]:
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    numbers, _, after = rest.partition("]")
    names = []
    for span in numbers.split(","):
        first, _, last = span.partition("-")
        names += [f"{before}{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return [name + end for name in names for end in _written_out(after)]


def node_name(environment: Mapping[str, str]) -> str:
    """This node as the cluster calls it."""
    return environment.get("SLURMD_NODENAME") or os.uname().nodename


def ranks_on_node(environment: Mapping[str, str]) -> int:
    """How many ranks share this node: torchrun says, Slurm lists the tasks of each node of a step (``2(x3),1``)."""
    if "LOCAL_WORLD_SIZE" in environment:
        return int(environment["LOCAL_WORLD_SIZE"])
    counts, node = _tasks_per_node(environment), int(environment.get("SLURM_NODEID", 0))
    return counts[node] if node < len(counts) else 1


def expected_nodes(environment: Mapping[str, str]) -> list[str]:
    """The node of each rank of a Slurm step, placed node after node as is Slurm's default; empty where Slurm says nothing."""
    nodes = environment.get("SLURM_STEP_NODELIST")
    return [node for node, count in zip(hosts(nodes), _tasks_per_node(environment), strict=False) for _ in range(count)] if nodes else []


def _tasks_per_node(environment: Mapping[str, str]) -> list[int]:
    listed = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return [int(count) for count, times in listed for _ in range(int(times or 1))]


def threads_of_rank(environment: Mapping[str, str], cores: int) -> int:
    """CPU threads for a rank that may run on ``cores`` cores: Slurm's --cpus-per-task, else its share of the node.

    Where Slurm binds tasks, ``cores`` is the rank's own share already and is not divided again.
    """
    own = environment.get("SLURM_CPUS_PER_TASK")
    if own is not None and "LOCAL_WORLD_SIZE" not in environment:
        return max(1, min(cores, int(own)))
    ranks, granted = ranks_on_node(environment), int(environment.get("SLURM_CPUS_ON_NODE", cores))
    bound = cores * ranks <= granted
    return max(1, cores if bound else min(cores, granted) // ranks)


def device_index(local_rank: int, devices: int) -> int:
    """Which of the ``devices`` GPUs that a process sees is its own: the only one (--gpus-per-task), else its local rank's.

    Raises:
        SnowError: where there are more ranks on the node than GPUs.
    """
    if devices == 1:
        return 0
    if local_rank >= devices:
        raise SnowError(f"rank {local_rank} of node {node_name(os.environ)} finds {devices} GPUs there: start one task a GPU (--ntasks-per-node={devices})")
    return local_rank
