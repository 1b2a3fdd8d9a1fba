from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.training.sinks import EVENTS, TensorBoard, Wandb, check_installed, open_sinks
from megatron_snow.training.watch_settings import WandbSettings, WatchSettings

needs_tensorboard = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed (extra watch)")
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed (extra wandb)")


def events(folder: Path) -> Iterator[Any]:
    """Every event of every file, as it lies there."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for path in sorted(folder.glob("events.*")):
        yield from (event for event in LegacyEventFileLoader(str(path)).Load() if event.summary.value)


def steps(folder: Path, tag: str) -> list[tuple[int, float]]:
    return sorted((event.step, round(value.simple_value, 4)) for event in events(folder) for value in event.summary.value if value.tag == tag)


@needs_tensorboard
def test_resumed_events_are_there_once_and_a_torn_one_is_gone(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, 0)
    for step in range(1, 8):
        first.add(step, {"train/loss": step / 10, "validation/heldout": 1.0})
    first.flush()
    [path] = tmp_path.glob("events.*")
    os.truncate(path, path.stat().st_size - 5)  # killed while writing
    second = TensorBoard(tmp_path, 4)
    for step in range(5, 8):
        second.add(step, {"train/loss": step / 100})
    second.close()
    assert steps(tmp_path, "train/loss") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.05), (6, 0.06), (7, 0.07)]
    assert [step for step, _ in steps(tmp_path, "validation/heldout")] == [1, 2, 3, 4]


@needs_wandb
def test_offline_runs_are_written_and_a_step_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = WandbSettings(project="snow", mode="offline")
    for seen, last in ((0, 5), (5, 8)):
        run = Wandb(settings, tmp_path, "general", seen)
        for step in range(1, last + 1):
            run.add(step, {"train/loss": 1 / step})
        assert run._run.step == last
        run.close()
    identity = (tmp_path / "wandb.id").read_text()
    assert [identity in path.name for path in (tmp_path / "wandb").glob("offline-run-*")] == [True, True]


@pytest.mark.parametrize(
    ("settings", "name"),
    [(WatchSettings(tensorboard=True), "tensorboard"), (WatchSettings(wandb=WandbSettings(project="snow")), "wandb")],
)
def test_a_missing_package_is_named_before_training(settings: WatchSettings, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SnowError, match=f"train.watch.{name} needs the package {name}, which is not installed: pip install {name}"):
        check_installed(settings)


def test_nothing_asked_for_is_nothing_opened(tmp_path: Path) -> None:
    check_installed(WatchSettings())
    assert list(open_sinks(WatchSettings(), tmp_path, "general", 0, 0)) == [] and list(tmp_path.iterdir()) == [] and EVENTS
