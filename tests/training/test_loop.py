"""What a run does over its life: killed, stopped, handed on, gone wrong."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import checkpoints, latest, saving_folder
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.ramp import BatchRamp
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.settings import LearningRate
from tests.training import ranks, small

PAIR = Layout(data=2)
LONG = small.train(small.phase(12), precision="bf16", checkpoint=CheckpointSettings(every=Duration(amount=3, unit="steps"), keep=2))


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("seconds", "tokens_per_second", "mfu", "memory")} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("uninterrupted")
    ranks.run(small.train_rank, 2, small.spec(tokens, work, PAIR, train=LONG))
    return work


def _after_a_checkpoint(work: Path) -> bool:
    return len(read_rows(work / METRICS)) >= 5 and latest(work) is not None  # written while training goes on


def _in_a_save(work: Path) -> bool:
    return saving_folder(work, 6).exists()


@pytest.mark.parametrize("moment", [_after_a_checkpoint, _in_a_save])
def test_killed_run_goes_on_to_the_bit(moment: Callable[[Path], bool], tokens: Path, tmp_path: Path, uninterrupted: Path) -> None:
    run = small.spec(tokens, tmp_path, PAIR, train=LONG)
    started = ranks.start(small.train_rank, 2, run)
    deadline = time.monotonic() + 60
    while not moment(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.001)
    for process, _ in started:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert 3 <= len(read_rows(tmp_path / METRICS)) < 12 and latest(tmp_path) is not None
    ranks.run(small.train_rank, 2, run)
    assert without_times(read_rows(tmp_path / METRICS)) == without_times(read_rows(uninterrupted / METRICS))
    assert read_rows(tmp_path / VALIDATION) == read_rows(uninterrupted / VALIDATION)
    for (name, weight), (_, expected) in zip(read_weights(latest(tmp_path)), read_weights(latest(uninterrupted)), strict=True):  # type: ignore[arg-type]
        assert torch.equal(weight, expected), name


def test_rows_and_checkpoints_are_as_the_settings_say(uninterrupted: Path) -> None:
    rows = read_rows(uninterrupted / METRICS)
    assert [row["step"] for row in rows] == list(range(1, 13)) and [row["tokens"] for row in rows] == [256 * step for step in range(1, 13)]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.2
    assert all(row["gradient_norm"] > 0 and row["tokens_per_second"] > 0 for row in rows)
    assert [folder.name for folder in checkpoints(uninterrupted)] == ["step-00000009", "step-00000012"]
    assert [(row["step"], row["tier"]) for row in read_rows(uninterrupted / VALIDATION)] == [(12, "heldout")]
    assert {weight.dtype for _, weight in read_weights(checkpoints(uninterrupted)[-1])} == {torch.bfloat16}


def stopped_rank(rank: int, world: int, rendezvous: str, run: Any) -> bool:
    """A run whose second rank is asked to stop before its first step."""
    from megatron_snow.training.signals import StopSignal
    from megatron_snow.training.worker import RankNumbers, run_rank

    stop = StopSignal()
    stop.listen()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return run_rank(run.model_copy(update={"rendezvous": rendezvous}), RankNumbers(rank, world, rank), stop)


def test_a_stop_signal_on_one_rank_saves_and_ends_all(tokens: Path, tmp_path: Path) -> None:
    assert ranks.run(stopped_rank, 2, small.spec(tokens, tmp_path, PAIR, train=LONG)) == [False, False]
    assert [row["step"] for row in read_rows(tmp_path / METRICS)] == [1]
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000001"]


def test_what_a_phase_hands_on(tokens: Path, tmp_path: Path) -> None:
    """AdamW's count after two phases of two steps, and what its moments and its bias correction do to the first step of the second."""
    every_step = CheckpointSettings(every=Duration(amount=1, unit="steps"), keep=9)
    first = tmp_path / "first"
    ranks.run(small.train_rank, 1, small.spec(tokens, first, train=small.train(small.phase(2))))
    counts, moved, before = {}, {}, dict(read_weights(checkpoints(first)[-1]))
    for hand_off in ("weights", "moments", "all"):
        second = tmp_path / hand_off
        train = small.train(small.phase(2, blend={"high_quality": 1}, hand_off=hand_off), checkpoint=every_step)
        ranks.run(small.train_rank, 1, small.spec(tokens, second, train=train, previous=first))
        assert read_rows(second / METRICS)[0]["loss"] < read_rows(first / METRICS)[0]["loss"]
        start, *_ = read_rows(second / VALIDATION)  # the model that the first phase validated last
        assert start == read_rows(first / VALIDATION)[-1] | {"step": 0, "tokens": 0}
        common = torch.load(checkpoints(second)[-1] / "common.pt", weights_only=True)
        counts[hand_off] = {group["step"] for group in common["optimizer"]["optimizer"]["param_groups"]}
        after = dict(read_weights(checkpoints(second)[0]))
        moved[hand_off] = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm().item()
    assert counts == {"weights": {2}, "moments": {2}, "all": {4}}
    assert len(set(moved.values())) == 3
    # by AdamW's formula for moments after three steps, counted as the first or as the third (some weights see no gradient, so within 5 %)
    correction = ((1 - 0.9**3) / (1 - 0.9)) / ((1 - 0.95**3) / (1 - 0.95)) ** 0.5
    assert moved["moments"] / moved["all"] == pytest.approx(correction, rel=0.05)


RAMP = small.train(
    small.phase(8, batch_ramp=BatchRamp(start=4, increment=2, over=Duration(amount=4, unit="steps"))),
    checkpoint=CheckpointSettings(every=Duration(amount=2 * 8 * 32, unit="tokens"), keep=9),
)


def test_a_batch_ramp_is_gone_on_with_under_another_layout(tokens: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    ranks.run(small.train_rank, 1, small.spec(tokens, whole, train=RAMP))
    rows = read_rows(whole / METRICS)
    assert [row["tokens"] for row in rows] == [32 * samples for samples in (4, 8, 14, 20, 28, 36, 44, 52, 60, 68)]
    shutil.copytree(whole, halves)
    for folder in checkpoints(halves)[1:]:
        shutil.rmtree(folder)
    assert checkpoints(halves)[0].name == "step-00000004"  # 20 samples: the first step at or past 16
    ranks.run(small.train_rank, 2, small.spec(tokens, halves, PAIR, train=RAMP))
    again = read_rows(halves / METRICS)
    assert [row["tokens"] for row in again] == [row["tokens"] for row in rows]
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in rows], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_every_rank_with_the_step(tokens: Path, tmp_path: Path) -> None:
    wild = small.phase(12, learning_rate=LearningRate(peak=1e30, warmup=Duration(amount=1, unit="steps")))
    with pytest.raises(SnowError, match=r"is (nan|inf) at step [0-9]+: lower learning_rate\.peak"):
        ranks.run(small.train_rank, 2, small.spec(tokens, tmp_path, PAIR, train=small.train(wild)))


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_changes_nothing(recompute: str, tokens: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "kept", tmp_path / "recomputed"
    short = small.phase(2)
    ranks.run(small.train_rank, 1, small.spec(tokens, one, train=small.train(short)))
    ranks.run(small.train_rank, 1, small.spec(tokens, other, train=small.train(short, recompute=recompute)))
    assert without_times(read_rows(one / METRICS)) == without_times(read_rows(other / METRICS))
