from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from megatron_snow.training.settings import LearningRate, PhaseSettings, TrainSettings


def test_defaults_are_the_papers_three_phases() -> None:
    phases = TrainSettings().phases
    assert list(phases) == ["general", "continued", "enhanced"]
    assert [phase.tokens for phase in phases.values()] == [500 * 10**9, 50 * 10**9, 5 * 10**9]
    assert all(phase.tokens_per_step == 4_194_304 for phase in phases.values())
    assert [phase.steps for phase in phases.values()] == [119_210, 11_921, 1_193]
    warmups = [phase.learning_rate.warmup.steps(phase.tokens_per_step) for phase in phases.values()]
    assert warmups == [600, 1000, 100]
    assert [phase.learning_rate.end for phase in phases.values()] == [5.3e-5, 0.0, 0.0]


@pytest.mark.parametrize(
    "values",
    [
        {"phases": {}},
        {"phases": {"general": {"blend": {}, "tokens": "1M"}}},
        {"phases": {"general": {"blend": {"standard": 0}, "tokens": "1M"}}},
        {"phases": {"general": {"blend": {"standard": 1}, "tokens": "many"}}},
        {"phases": {"general": {"blend": {"standard": 1}, "tokens": "1M", "learning_rate": {"decay": "wsd"}}}},
        {"phases": {"general": {"blend": {"standard": 1}, "tokens": "1M", "learning_rate": {"cooldown": "10 steps"}}}},
        {"precision": "fp16"},
        {"optimizer": {"beta1": 1.0}},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings.model_validate(values)


def test_what_only_changes_how_work_is_done_is_no_part_of_the_identity() -> None:
    one = TrainSettings()
    phases = {name: phase.model_copy(update={"micro_batch": 8}) for name, phase in one.phases.items()}
    other = one.model_copy(update={"recompute": "full", "timeout": 5, "phases": phases})
    assert one.identity() == other.identity()
    assert one.identity() != one.model_copy(update={"precision": "fp32"}).identity()


def test_shares_are_relative() -> None:
    phase = PhaseSettings(blend={"standard": 3, "high_quality": 1}, tokens=1, learning_rate=LearningRate())
    assert phase.share("standard") == 0.75
