from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from megatron_snow.artifacts.units import Duration
from megatron_snow.training.settings import LearningRate, PhaseSettings, TrainSettings

NO_WARMUP = LearningRate(warmup=Duration(amount=0, unit="steps"))


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
    phase = PhaseSettings(blend={"standard": 3, "high_quality": 1}, tokens=1, learning_rate=NO_WARMUP)
    assert phase.share("standard") == 0.75


def steps_of(count: int, **rate: str) -> PhaseSettings:
    return PhaseSettings.model_validate({"blend": {"standard": 1}, "tokens": count * 64, "batch": 2, "sequence": 32, "learning_rate": rate})


@pytest.mark.parametrize("tokens", [0, "0", -1])
def test_a_phase_of_no_tokens_is_refused(tokens: Any) -> None:
    with pytest.raises(ValidationError, match=r"0 tokens are nothing to train on|-1 is not a number of tokens"):
        PhaseSettings(blend={"standard": 1}, tokens=tokens, learning_rate=NO_WARMUP)


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ({"warmup": "5000 steps"}, "warmup is 5000 steps, the phase has 235: shorten it"),
        ({"warmup": "235 steps"}, "warmup is 235 steps, the phase has 235: shorten it"),
        ({"warmup": "16K"}, "warmup is 250 steps, the phase has 235: shorten it"),
        ({"warmup": "200 steps", "decay": "wsd", "cooldown": "35 steps"}, "warmup is 200 steps and cooldown 35, the phase has 235: shorten them"),
    ],
)
def test_a_schedule_longer_than_its_phase_is_refused(rate: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        steps_of(235, **rate)


def test_a_schedule_a_step_shorter_than_its_phase_is_taken() -> None:
    assert steps_of(235, warmup="234 steps").steps == steps_of(235, warmup="200 steps", decay="wsd", cooldown="34 steps").steps == 235
