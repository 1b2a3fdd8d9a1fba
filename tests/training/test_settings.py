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
    warmups = [phase.steps_of(phase.learning_rate.warmup) for phase in phases.values()]
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
        ({"warmup": "0 steps", "decay": "wsd", "cooldown": "1M"}, "warmup is 0 steps and cooldown over 235, the phase has 235: shorten them"),
        ({"warmup": "16K"}, "warmup is 250 steps, the phase has 235: shorten it"),
        ({"warmup": "200 steps", "decay": "wsd", "cooldown": "36 steps"}, "warmup is 200 steps and cooldown 36, the phase has 235: shorten them"),
    ],
)
def test_a_schedule_longer_than_its_phase_is_refused(rate: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        steps_of(235, **rate)


def test_a_schedule_a_step_shorter_than_its_phase_is_taken() -> None:
    assert steps_of(235, warmup="234 steps").steps == steps_of(235, warmup="200 steps", decay="wsd", cooldown="35 steps").steps == 235


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": {"warmup": "0", "decay": "wsd", "cooldown": "0 steps"}}, "0 steps is no stretch of training"),
        ({"learning_rate": {"warmup": "0", "start": 1e-2}}, "start 0.01 is above peak 0.00053: the rate goes up to peak"),
        ({"learning_rate": {"warmup": "0", "end": 1e-2}}, "end 0.01 is above peak 0.00053"),
        ({"learning_rate": {"warmup": "0", "peak": float("inf")}}, "finite number"),
        ({"learning_rate": {"warmup": {"amount": -1, "unit": "steps"}}}, "greater than or equal to 0"),
        ({"replay": {"high_quality": 1.0}}, "less than 1"),
        ({"replay": {"high_quality": 0.6, "synthetic": 0.4}}, "replay takes 100% of the phase, nothing is left for blend"),
        ({"replay": {"standard": 0.5}}, "tier standard is in blend and in replay: name it once"),
        ({"batch_ramp": {"start": 3, "increment": 2, "over": "1K"}}, "batch_ramp from 3 by 2 does not reach batch 8"),
        ({"batch_ramp": {"start": 8, "increment": 1, "over": "1K"}}, "batch_ramp from 8 by 1 does not reach batch 8"),
        ({"batch_ramp": {"start": 4, "increment": 2, "over": "0"}}, "is no stretch of training"),
        ({"batch_ramp": {"start": 4, "increment": 2, "over": "20 steps"}}, "batch_ramp reaches the whole batch after 20 steps, the phase has 17: shorten"),
        ({"hand_off": "half"}, "'weights', 'moments' or 'all'"),
    ],
)
def test_a_phase_that_does_not_add_up_is_refused(changes: dict[str, Any], says: str) -> None:
    values = {"blend": {"standard": 1}, "tokens": 10 * 8 * 32, "batch": 8, "sequence": 32, "learning_rate": {"warmup": "0"}}
    with pytest.raises(ValidationError, match=says):
        PhaseSettings.model_validate(values | changes)


@pytest.mark.parametrize("every", ["0 steps", "0"])
def test_never_is_no_period(every: str) -> None:
    for field in ("validation", "checkpoint"):
        with pytest.raises(ValidationError, match="is no stretch of training: give 1 at least"):
            TrainSettings.model_validate({field: {"every": every}})


def test_replay_is_a_share_of_all_tokens_and_the_blend_shares_the_rest() -> None:
    phase = PhaseSettings(blend={"synthetic": 3, "high_quality": 1}, replay={"standard": 0.84}, tokens=1, learning_rate=NO_WARMUP)
    assert phase.share("standard") == pytest.approx(0.84)
    assert phase.share("synthetic") == pytest.approx(0.12) and phase.share("high_quality") == pytest.approx(0.04)
    assert PhaseSettings(blend={"synthetic": 3}, tokens=1, learning_rate=NO_WARMUP).mix == {"synthetic": 3}


def test_what_is_done_every_so_many_tokens_keeps_to_them_over_fractions_of_steps() -> None:
    phase = steps_of(235, warmup="0")  # 64 tokens a step
    every = Duration(amount=100, unit="tokens")
    assert [step for step in range(1, 12) if phase.due(every, step)] == [2, 4, 5, 7, 8, 10, 11]
    assert [step for step in range(1, 12) if phase.due(Duration(amount=3, unit="steps"), step)] == [3, 6, 9]


def test_a_blend_in_tokens_and_a_mixture() -> None:
    phase = PhaseSettings.model_validate({"blend": {"standard": "400B", "high_quality": "100B"}, "tokens": "500B"})
    assert phase.share("standard") == 0.8 and phase.blend["standard"] == 4e11
    for mixture in ({"languages": {"synthetic": {"Python": 1}}}, {"max_epochs": {"synthetic": 2}}):
        with pytest.raises(ValidationError, match="names the tier synthetic, the phase has standard"):
            PhaseSettings.model_validate({"blend": {"standard": 1}, "tokens": "500B", "mixture": mixture})
    for weight in (0, -1, "much", "nan"):
        with pytest.raises(ValidationError):
            PhaseSettings.model_validate({"blend": {"standard": weight}, "tokens": "500B"})
