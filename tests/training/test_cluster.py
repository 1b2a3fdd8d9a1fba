from __future__ import annotations

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.training.cluster import Meeting, device_index, expected_nodes, hosts, meeting_point, ranks_on_node, step_port, threads_of_rank


@pytest.mark.parametrize(
    ("nodes", "written_out"),
    [
        ("node1", ["node1"]),
        ("node[1-3,7]", ["node1", "node2", "node3", "node7"]),
        ("gpu[009-010,12],login1", ["gpu009", "gpu010", "gpu12", "login1"]),
        ("a100-3,b[1-2]", ["a100-3", "b1", "b2"]),
        ("r[1-2]n[03-04].cluster.org,x", ["r1n03.cluster.org", "r1n04.cluster.org", "r2n03.cluster.org", "r2n04.cluster.org", "x"]),
    ],
)
def test_a_compressed_list_is_written_out(nodes: str, written_out: list[str]) -> None:
    assert hosts(nodes) == written_out


@pytest.mark.parametrize("nodes", ["", ",node1", "node1,", "[1-2", "a b"])
def test_what_is_no_list_of_nodes_is_refused(nodes: str) -> None:
    with pytest.raises(SnowError, match="export MASTER_ADDR"):
        hosts(nodes)


def test_where_ranks_are_expected() -> None:
    assert expected_nodes({"SLURM_STEP_NODELIST": "a[1-2],b", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1"}) == ["a1", "a1", "a2", "a2", "b"]
    assert expected_nodes({}) == []


SLURM = {"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "1", "SLURM_JOB_NODELIST": "a[1-4]", "SLURM_STEP_NODELIST": "a[3-4]"}


def test_the_meeting_is_at_the_steps_first_node() -> None:
    assert meeting_point(SLURM) == Meeting("a3", step_port(17, 1), hosted=False)


def test_what_the_user_exports_is_obeyed() -> None:
    assert meeting_point(SLURM | {"MASTER_PORT": "3000"}) == Meeting("a3", 3000, hosted=False)
    assert meeting_point(SLURM | {"MASTER_ADDR": "ib0"}).host == "ib0"


def test_torchrun_has_its_own_meeting() -> None:
    torchrun = {"MASTER_ADDR": "h", "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert meeting_point(SLURM | torchrun) == Meeting("h", 29500, hosted=True)


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_NODELIST": "a1"}, {"MASTER_ADDR": "a"}, SLURM | {"MASTER_PORT": "many"}])
def test_without_a_meeting_point_the_remedy_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(SnowError, match="MASTER_PORT"):
        meeting_point(environment)


def test_jobs_and_steps_that_run_together_do_not_share_a_port() -> None:
    ports = [step_port(job, step) for job in range(1_234_567, 1_234_567 + 2000) for step in range(3)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 12_000 and max(ports) < 32_768  # Linux takes ephemeral ports from there on


@pytest.mark.parametrize(("node", "ranks"), [("0", 2), ("2", 2), ("3", 1)])
def test_ranks_on_a_node(node: str, ranks: int) -> None:
    assert ranks_on_node({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": node}) == ranks


@pytest.mark.parametrize(
    ("environment", "cores", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "32"}, 32, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "32"}, 32, 4),  # not bound: each sees the whole node
        ({"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "32"}, 4, 4),  # bound
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "32", "SLURM_CPUS_ON_NODE": "32"}, 32, 4),  # torchrun in a task of the whole node
        ({"LOCAL_WORLD_SIZE": "2"}, 2, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "4"}, 2, 1),
    ],
)
def test_threads_of_a_rank(environment: dict[str, str], cores: int, threads: int) -> None:
    assert threads_of_rank(environment, cores) == threads


def test_a_rank_takes_the_gpu_that_it_was_given() -> None:
    assert [device_index(rank, 8) for rank in range(8)] == list(range(8))
    assert device_index(5, 1) == 0  # --gpus-per-task=1 shows each task its own
    with pytest.raises(SnowError, match="--ntasks-per-node=4"):
        device_index(4, 4)
