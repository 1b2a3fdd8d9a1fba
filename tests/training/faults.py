"""A run of two ranks that is killed again and again, half of the times in the middle of a save, and resumed each time."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import latest, read_description
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.settings import TrainSettings, ValidationSettings
from tests.training import ranks, small

PAIR = Layout(data=2)
MODEL = ModelSettings(hidden=64, ffn=128, layers=2, heads=4, kv_heads=2, vocabulary_multiple=8192)
"""Most of it embedding: a save takes as long as some steps, so that kills can hit it."""
EVERY = 2  # steps between saves
_FARTHEST = 4  # steps a run gets before it is killed
_OF_THE_MACHINE = ("seconds", "tokens_per_second", "mfu", "memory")
_LONGEST_SAVE = 0.08  # seconds after a save's begin within which it is hit; one takes 0.05 to 0.2 s


def settings(steps: int) -> TrainSettings:
    """bf16, a save every second step, asynchronous, two kept."""
    every = Duration(amount=EVERY, unit="steps")
    return small.train(
        small.phase(steps, max_epochs=1e9), precision="bf16", checkpoint=CheckpointSettings(every=every, keep=2),
        validation=ValidationSettings(samples=8, tiers=("heldout",), every=Duration(amount=7, unit="steps")),
    )  # fmt: skip


def _saving(work: Path) -> bool:
    return next((work / "checkpoints").glob(".step-*.saving"), None) is not None if (work / "checkpoints").exists() else False


def _rows(work: Path) -> int:
    return len(read_rows(work / METRICS))


def killed_run(tokens: Path, work: Path, steps: int, kills: int, seed: int) -> int:
    """Train to the end in spite of ``kills`` kills; returns how many hit a save."""
    chance, run, hits = random.Random(seed), small.spec(tokens, work, PAIR, MODEL, train=settings(steps)), 0
    for _ in range(kills):
        started = ranks.start(small.train_rank, 2, run)
        before, in_a_save, deadline = _rows(work), chance.random() < 0.6, time.monotonic() + 120
        goal = before + 1 + chance.randrange(_FARTHEST)
        while time.monotonic() < deadline and (_rows(work) < before or _rows(work) < goal or (in_a_save and not _saving(work))):
            before = min(before, _rows(work))  # resumed from the last checkpoint, the rows after it are cut off
            goal = min(goal, before + _FARTHEST)
            assert any(process.is_alive() for process, _ in started), "the run ended by itself"
            time.sleep(0.001)
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(chance.uniform(0, _LONGEST_SAVE))
        victims = started if chance.random() < 0.7 else [chance.choice(started)]
        for process, _ in victims:
            os.kill(process.pid, signal.SIGKILL)
        hits += _saving(work)
        for process, _ in started:
            process.join(60)  # a rank whose peer was killed ends by itself
            assert process.exitcode is not None, "a rank outlived its peer"
    ranks.run(small.train_rank, 2, run, seconds=600)
    return hits


def uninterrupted_run(tokens: Path, work: Path, steps: int) -> None:
    """The same run without kills."""
    ranks.run(small.train_rank, 2, small.spec(tokens, work, PAIR, MODEL, train=settings(steps)), seconds=600)


def differences(one: Path, other: Path) -> list[str]:
    """In what two finished runs differ: any row but for its times, any byte of the last checkpoint."""
    timeless = [[{name: value for name, value in row.items() if name not in _OF_THE_MACHINE} for row in read_rows(work / METRICS)] for work in (one, other)]
    found = [f"step {a['step']}: {a} / {b}" for a, b in zip(*timeless, strict=False) if a != b]
    if len(timeless[0]) != len(timeless[1]):
        found.append(f"{len(timeless[0])} / {len(timeless[1])} rows")
    if read_rows(one / VALIDATION) != read_rows(other / VALIDATION):
        found.append("validation")
    last = [latest(one), latest(other)]
    assert last[0] is not None and last[1] is not None
    files = [read_description(folder).files for folder in last if folder is not None]
    return found + [name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name)]
