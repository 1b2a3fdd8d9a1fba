"""Saves that run beside the training: asked to stop in one, no time for one, no room for one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError, Stopped
from megatron_snow.checkpoint.store import checkpoints, latest, read_description, verify
from megatron_snow.training.records import METRICS, read_rows
from tests.training import ranks, small
from tests.training.test_loop import LONG, PAIR, without_times


@pytest.fixture(scope="module")
def uninterrupted(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("uninterrupted")
    ranks.run(small.train_rank, 2, small.spec(tokens, work, PAIR, train=LONG))
    return work


def stopped_in_a_save(rank: int, world: int, rendezvous: str, run: Any, grace: int) -> bool:
    """A run that is asked to stop while a save is under way."""
    import threading

    from megatron_snow.training.signals import StopSignal
    from megatron_snow.training.worker import RankNumbers, run_rank

    stop = StopSignal()
    stop.listen()

    def ask_in_a_save() -> None:
        while not any((run.work / "checkpoints").glob(".step-*.saving")):
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGUSR1)

    if rank == 0:
        threading.Thread(target=ask_in_a_save, daemon=True).start()
    return run_rank(run.model_copy(update={"rendezvous": rendezvous}), RankNumbers(rank, world, rank), stop)


def test_a_stop_in_the_middle_of_an_asynchronous_save_ends_with_a_whole_one(tokens: Path, tmp_path: Path, uninterrupted: Path) -> None:
    run = small.spec(tokens, tmp_path, PAIR, train=LONG)
    assert ranks.run(stopped_in_a_save, 2, run, 60) == [False, False]
    stopped = read_rows(tmp_path / METRICS)[-1]["step"]
    assert 3 <= stopped < 12
    newest = latest(tmp_path)
    assert newest is not None and read_description(newest).step == stopped
    verify(newest)
    assert not list((tmp_path / "checkpoints").glob(".*"))
    ranks.run(small.train_rank, 2, run)
    assert without_times(read_rows(tmp_path / METRICS)) == without_times(read_rows(uninterrupted / METRICS))


def test_without_time_left_a_stop_ends_with_the_checkpoint_before(tokens: Path, tmp_path: Path) -> None:
    train = LONG.model_copy(update={"checkpoint": LONG.checkpoint.model_copy(update={"grace": 0})})
    started = ranks.start(stopped_in_a_save, 2, small.spec(tokens, tmp_path, PAIR, train=train), 0)
    for process, _ in started:
        process.join(60)
    assert {process.exitcode for process, _ in started} <= {Stopped.exit_code, 0}
    for folder in checkpoints(tmp_path):
        verify(folder)
    ranks.run(small.train_rank, 2, small.spec(tokens, tmp_path, PAIR, train=LONG))
    assert [row["step"] for row in read_rows(tmp_path / METRICS)] == list(range(1, 13))


def blocked_rank(rank: int, world: int, rendezvous: str, run: Any) -> bool:
    """A run whose second rank may write no file beyond some bytes once the first checkpoint is published."""
    import resource
    import threading

    def fill() -> None:
        while latest(run.work) is None:
            time.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if rank == 1:
        threading.Thread(target=fill, daemon=True).start()
    return small.train_rank(rank, world, rendezvous, run)


def test_a_disk_that_takes_no_more_on_one_rank_ends_all_with_the_checkpoint_before(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"the checkpoint of step (6|9|12) could not be written: File too large at its folder \(rank 1\); the one before it is"):
        ranks.run(blocked_rank, 2, small.spec(tokens, tmp_path, PAIR, train=LONG))
    newest = latest(tmp_path)
    assert newest is not None
    verify(newest)
