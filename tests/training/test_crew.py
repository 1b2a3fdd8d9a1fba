"""Ranks that end together: forked from one process that has imported torch, each with what torchrun would tell it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest

_START = """
import json, os, signal, sys, time
from megatron_snow.artifacts.errors import SnowError, Stopped
from megatron_snow.training.crew import attend
from megatron_snow.training.worker import RankNumbers

def action(crew):
    rank = crew.numbers.rank
{action}

def run(rank):
    os.environ["SLURMD_NODENAME"] = f"node{{rank // 2 + 1}}"
    try:
        attend(RankNumbers(rank, 4, rank % 2), action, listen=True)
    finally:
        sys.stdout.flush()
        os._exit(0 if sys.exc_info()[0] is None else 99)

ranks = {{}}
for rank in range(4):
    pid = os.fork()
    if pid == 0:
        run(rank)
    ranks[pid] = rank
codes = {{}}
while ranks:
    pid, status = os.wait()
    codes[ranks.pop(pid)] = os.waitstatus_to_exitcode(status)
print("codes", json.dumps([codes[rank] for rank in range(4)]))
"""


def ends(action: str) -> tuple[list[int], list[str], str]:
    """The ranks' exit codes, what they printed, and what stood on standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORCHELASTIC"))}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    script = _START.format(action=textwrap.indent(textwrap.dedent(action), "    "))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120)
    *said, codes = done.stdout.splitlines() or [""]
    assert codes.startswith("codes "), done.stderr
    return json.loads(codes.removeprefix("codes ")), sorted(said), done.stderr


def test_the_leader_speaks_and_hears() -> None:
    action = """
    told = crew.agree(lambda: {"rank": rank})
    heard = [crew.hear(), crew.hear()] if rank else [crew.tell("a"), crew.tell(None)]
    came = crew.gather(rank * rank, 30)
    print(rank, told["rank"], heard, came)
    """
    codes, said, errors = ends(action)
    assert codes == [0, 0, 0, 0] and errors == ""
    assert said == ["0 0 [None, None] {0: 0, 1: 1, 2: 4, 3: 9}", *(f"{rank} 0 ['a', None] {{}}" for rank in (1, 2, 3))]


@pytest.mark.parametrize(
    ("raised", "code", "message"), [('SnowError("no such tier")', 2, "snow: rank 3 on node2: no such tier"), ('KeyError("x")', 1, "KeyError: 'x'")]
)
def test_a_failing_rank_ends_all_with_one_message(raised: str, code: int, message: str) -> None:
    action = f"""
    if rank == 3:
        raise {raised}
    time.sleep(60)  # as in a collective that never ends
    """
    codes, _, errors = ends(action)
    assert codes == [code] * 4
    assert errors.count(message) == 1 and errors.count("snow: ") == 1


def test_all_fail_alike_with_one_message() -> None:
    codes, _, errors = ends('raise SnowError("the loss is nan")')
    assert codes == [2] * 4 and errors.count("the loss is nan") == 1


def test_a_stop_ends_all_with_its_code() -> None:
    codes, _, errors = ends('raise Stopped("saved")')
    assert codes == [3] * 4 and errors == "snow: saved\n"


def test_without_rank_0_the_others_end() -> None:
    action = """
    crew.gather(rank, 30)
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    crew.hear()
    """
    codes, _, errors = ends(action)
    assert codes == [-9, 4, 4, 4]
    assert "rank 0 on 127.0.0.1" in errors and "its process is gone" in errors


def test_a_broken_connection_waits_for_its_cause() -> None:
    action = """
    if rank == 1:
        raise RuntimeError("Connection closed by peer [10.0.0.1]:1. This is typically caused by ...")
    if rank == 2:
        time.sleep(1)
        raise SnowError("the cause")
    time.sleep(60)
    """
    codes, _, errors = ends(action)
    assert codes == [2] * 4 and "snow: rank 2 on node2: the cause" in errors and "Connection" not in errors


def test_a_broken_connection_without_a_cause_is_a_lost_rank() -> None:
    action = """
    if rank == 1:
        raise RuntimeError("Connection closed by peer [10.0.0.1]:1. This is typically caused by ...")
    time.sleep(60)
    """
    codes, _, errors = ends(action)
    assert codes == [4] * 4 and "rank 1 on node1: the connection to another rank broke (Connection closed by peer [10.0.0.1]:1): " in errors
