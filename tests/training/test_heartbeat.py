"""A rank that hangs is named, and ends the run."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from megatron_snow.parallel.settings import Layout
from megatron_snow.training.heartbeat import Beat, _Table
from megatron_snow.training.worker import LOST
from tests.training import ranks, small
from tests.training.test_launch import start, wait_for_rows

LIMIT = 4


@pytest.mark.parametrize("victim", [0, 1])
def test_a_frozen_rank_ends_a_running_training_with_its_name(victim: int, tokens: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    launcher = start(small.spec(tokens, work, Layout(data=2), train=small.train(small.phase(100_000, max_epochs=1e9), timeout=LIMIT)), tmp_path)
    wait_for_rows(work, 3)
    family = psutil.Process(launcher.pid).children(recursive=True)
    os.kill(json.loads((work / ".heartbeat" / f"rank-{victim}").read_text())["process"], signal.SIGSTOP)
    began = time.monotonic()
    message = launcher.communicate(timeout=60)[1]
    assert f"SnowError: phase general: rank {victim} has not answered for {LIMIT} s (rank {victim} was last at step " in message
    assert "run the same command again to go on" in message
    assert time.monotonic() - began < LIMIT + 20  # the others get 10 s to report
    assert psutil.wait_procs(family, timeout=10)[1] == []


def frozen_before_the_groups(rank: int, world: int, rendezvous: str, run: Any, reports: Path) -> None:
    """A rank, the second of which freezes before it has met the first."""
    from megatron_snow.training.signals import StopSignal
    from megatron_snow.training.worker import RankNumbers, run_and_report

    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(run_and_report(run.model_copy(update={"rendezvous": rendezvous}), RankNumbers(rank, world, rank), reports, StopSignal()))


def test_a_rank_that_never_comes_is_named_before_the_groups_exist(tokens: Path, tmp_path: Path) -> None:
    run = small.spec(tokens, tmp_path / "work", Layout(data=2), train=small.train(timeout=2))
    (leader, _), (frozen, _) = ranks.start(frozen_before_the_groups, 2, run, tmp_path)
    leader.join(60)
    frozen.kill()
    assert leader.exitcode == LOST
    report = json.loads((tmp_path / "error-0.json").read_text())
    assert report["lost"] and report["message"] == "rank 1 has not answered for 2 s (rank 1 never started): frozen, or its machine is gone"


def stuck(rank: int, world: int, rendezvous: str, folder: Path, limit: float) -> None:
    """Ranks whose training comes to a halt: the second's in reading, the others' in waiting for it. The first says what it hears."""
    from megatron_snow.training.heartbeat import Heartbeat

    def hung(message: str) -> None:
        (folder / f"heard-{rank}").write_text(message)
        os._exit(LOST)

    with Heartbeat(folder / "beats", rank, world, limit, hung) as heartbeat:
        heartbeat.at("step 7: reading samples")
        if rank != 1:
            heartbeat.at("step 7: training")
        time.sleep(60)


def test_a_standstill_names_the_rank_that_is_behind_and_ends_all(tmp_path: Path) -> None:
    started = ranks.start(stuck, 3, tmp_path, 2.0)
    for process, _ in started:
        process.join(30)
    assert [process.exitcode for process, _ in started] == [LOST] * 3
    heard = {(tmp_path / f"heard-{rank}").read_text() for rank in range(3)}
    assert heard == {"nothing moved for 2 s: rank 1 has not got on (rank 1 was last at step 7: reading samples)"}


def looks(*beats: dict[int, Beat | None], seconds: float = 1.0) -> list[str | None]:
    table = _Table(3.0, 0.0)
    return [table.look(beat, (index + 1) * seconds) for index, beat in enumerate(beats)]


def test_ranks_that_move_or_have_left_are_fine() -> None:
    assert looks(*({0: (n, n, "x"), 1: (n, n, "x")} for n in range(9))) == [None] * 9
    assert looks(*({0: (n, 0, "x"), 1: (1, 1, "x") if n == 0 else None} for n in range(9))) == [None] * 9


def test_a_rank_that_only_breathes_does_not_hide_a_standstill() -> None:
    found = looks(*({0: (n, 5, "step 5: training"), 1: (n, 5, "step 5: training")} for n in range(9)))
    assert found[:4] == [None] * 4
    assert found[4] == "nothing moved for 3 s: all ranks wait (rank 0 was last at step 5: training; rank 1 was last at step 5: training)"


def test_only_the_rank_that_sees_all_judges_a_standstill() -> None:
    table = _Table(3.0, 0.0)
    assert [table.look({0: (n, 5, "step 5: training")}, n + 1.0, standstill=False) for n in range(9)] == [None] * 9
