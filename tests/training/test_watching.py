"""Tiny real runs that are watched: what their rows hold, what they warn of, what a resume leaves."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import checkpoints
from megatron_snow.model.settings import flops_per_token
from megatron_snow.tokens.writer import IndexedWriter
from megatron_snow.training.phase import _summarise
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.samples import phase_samples
from megatron_snow.training.settings import LearningRate, TrainSettings, ValidationSettings
from megatron_snow.training.sinks import EVENTS
from megatron_snow.training.watch_settings import WatchSettings
from megatron_snow.training.watching import scalars
from tests.training import ranks, small
from tests.training.test_sinks import steps

TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
EVERY_TWO = Duration(amount=2, unit="steps")


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Standard and high-quality tiers of opposite habits: 0 1 2 3 ... and ... 3 2 1 0, some tokens of noise in each."""
    folder, random = tmp_path_factory.mktemp("kinds"), np.random.default_rng(3)
    for tier, direction, documents in (("standard", 1, 40), ("high_quality", -1, 8), ("heldout", 1, 10)):
        (folder / tier).mkdir()
        with IndexedWriter(folder / tier / "00000", np.dtype("<u2")) as out:
            for _ in range(documents):
                walk = (random.integers(50) + direction * np.arange(200)) % 50
                out.add(np.where(random.random(200) < 0.1, random.integers(50, size=200), walk))
            out.finish()
    return folder


def watched(**changes: Any) -> TrainSettings:
    """Phase general on standard, then continued on high_quality, validated every second step."""
    rate = LearningRate(peak=3e-3, warmup=Duration(amount=2, unit="steps"), decay="constant")
    phases = {
        "general": small.phase(10, blend={"standard": 1}, learning_rate=rate),
        "continued": small.phase(24, blend={"high_quality": 1}, learning_rate=rate, max_epochs=9, warn_epochs=2),
    }  # fmt: skip
    defaults: dict[str, Any] = {
        "phases": phases, "validation": ValidationSettings(every=EVERY_TWO, samples=8, tiers=("standard", "high_quality", "heldout")),
        "checkpoint": CheckpointSettings(every=Duration(amount=8, unit="steps"), keep=9), "watch": WatchSettings(tensorboard=TENSORBOARD, peak_flops=1e12),
    }  # fmt: skip
    return small.train(**(defaults | changes))


@pytest.fixture(scope="module")
def runs(two_kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The two phases' folders."""
    first, second = tmp_path_factory.mktemp("general"), tmp_path_factory.mktemp("continued")
    ranks.run(small.train_rank, 1, small.spec(two_kinds, first, train=watched()))
    ranks.run(small.train_rank, 1, small.spec(two_kinds, second, train=watched(), phase="continued", previous=first))
    return first, second


def test_rows_hold_memory_utilisation_and_the_position_in_the_data(two_kinds: Path, runs: tuple[Path, Path]) -> None:
    rows = read_rows(runs[1] / METRICS)
    assert [row["samples"] for row in rows] == [{"high_quality": 8 * step} for step in range(1, 25)]
    data = phase_samples("continued", watched().phases["continued"], two_kinds, 7)
    assert rows[-1]["passes"]["high_quality"] == pytest.approx(data.epochs("high_quality"), abs=1e-4) == pytest.approx(24 * 8 * 32 / 1600, abs=1e-4)
    for row in rows:
        assert 50e6 < row["memory"] < 8e9
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * flops_per_token(small.MODEL, 256, 32) / 1e12, abs=1e-4)


def test_a_real_run_that_overfits_says_so_and_so_does_its_summary(two_kinds: Path, runs: tuple[Path, Path]) -> None:
    """Trained on the reversed walks, the model unlearns the others: the signature, not a constructed series."""
    first, second = runs
    assert _summarise(small.spec(two_kinds, first, train=watched()), {"standard": 0.6})["warnings"] == []
    summary = _summarise(small.spec(two_kinds, second, train=watched(), phase="continued"), {"high_quality": 3.84})
    text = "\n".join(summary["warnings"])
    assert "the validation loss of high_quality fell" in text and "standard rose" in text and "heldout rose" in text
    assert "high_quality has been gone through 3.8 times, warn_epochs is 2 (max_epochs allows 9)" in text


def warned(rank: int, world: int, rendezvous: str, run: Any) -> list[str]:
    """The warnings a rank prints while it trains."""
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        small.train_rank(rank, world, rendezvous, run)
    return [line for line in said.getvalue().splitlines() if "warning, train" in line]


def test_warnings_come_while_it_trains_and_once_over_a_resume(two_kinds: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("whole", "half"):
        shutil.copytree(runs[1], tmp_path / name)
    spec = small.spec(two_kinds, tmp_path / "whole", train=watched(), phase="continued", previous=runs[0])
    for folder in checkpoints(spec.work):
        shutil.rmtree(folder)
    said = ranks.run(warned, 1, spec)[0]
    assert len(set(said)) == len(said) and "repetition: high_quality has been gone through 2.1 times" in "\n".join(said)
    began = {line: int(found[1]) for line in said if (found := re.search(r"from step \d+ to (\d+) ", line))}
    assert min(began.values()) <= 16 and any("standard rose" in line for line in began)
    resumed = small.spec(two_kinds, tmp_path / "half", train=watched(), phase="continued", previous=runs[0])
    shutil.rmtree(checkpoints(resumed.work)[-1])
    again = ranks.run(warned, 1, resumed)[0]  # from step 16: only what begins after that is told
    assert again == [line for line in said if began.get(line, 0) > 16]
    assert [row["step"] for row in read_rows(resumed.work / METRICS)] == list(range(1, 25))
    assert [row["step"] for row in read_rows(resumed.work / VALIDATION) if row["tier"] == "heldout"] == list(range(0, 25, 2))
    if TENSORBOARD:
        for work in (spec.work, resumed.work):
            assert [step for step, _ in steps(work / EVENTS, "train/loss")] == list(range(1, 25))
            assert [step for step, _ in steps(work / EVENTS, "validation/standard")] == list(range(0, 25, 2))
            shown = [loss for _, loss in steps(work / EVENTS, "train/loss")]
            assert shown == pytest.approx([row["loss"] for row in read_rows(work / METRICS)], abs=1e-4)


def test_names_of_what_sinks_show() -> None:
    row = {"step": 3, "seconds": 0.1, "tokens": 9, "loss": float("nan"), "gradient_norm": None, "passes": {"standard": 0.5}, "anomaly": "spike"}
    assert scalars(METRICS, row) == {"train/tokens": 9.0, "data/passes/standard": 0.5}
    assert scalars(VALIDATION, {"step": 3, "tokens": 9, "tier": "heldout", "loss": 2.0}) == {"validation/heldout": 2.0}
    assert scalars(VALIDATION, {"step": 3, "tokens": 9, "tier": "heldout", "language": "C++", "loss": 2.0}) == {"validation/heldout/C++": 2.0}
