from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from megatron_snow.artifacts.units import Duration
from megatron_snow.training.ramp import BatchRamp
from megatron_snow.training.schedule import learning_rate
from megatron_snow.training.settings import LearningRate, PhaseSettings, TrainSettings
from tests.training import small

WARMUP, STEPS = 4, 40


def rates(**changes: Any) -> list[float]:
    rate = LearningRate(peak=1e-3, warmup=Duration(amount=WARMUP, unit="steps"), **changes)
    phase = small.phase(STEPS, learning_rate=rate)
    return [learning_rate(phase, step) for step in range(STEPS)]


def of_torch(make: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_is_linear_and_wastes_no_step() -> None:
    assert rates()[:WARMUP] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])


def test_cosine_is_torchs() -> None:
    expected = of_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS - WARMUP, 1e-4), STEPS - WARMUP)
    assert rates(decay="cosine", end=1e-4)[WARMUP:] == pytest.approx(expected)


def test_linear_is_torchs_and_ends_a_step_above_its_end() -> None:
    expected = of_torch(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, STEPS - WARMUP), STEPS - WARMUP)
    found = rates(decay="linear", end=1e-4)[WARMUP:]
    assert found == pytest.approx(expected)
    assert found[-1] == pytest.approx(1e-4 + 9e-4 / (STEPS - WARMUP))


def test_constant_stays_and_wsd_descends_at_the_end() -> None:
    assert set(rates(decay="constant")[WARMUP:]) == {1e-3}
    wsd = rates(decay="wsd", cooldown=Duration(amount=10, unit="steps"))
    assert set(wsd[WARMUP : STEPS - 9]) == {1e-3}
    assert wsd[-10:] == pytest.approx([1e-3 * (10 - step) / 10 for step in range(10)])


def test_durations_in_tokens_are_steps_of_the_phases_batch() -> None:
    in_tokens = LearningRate(peak=1e-3, warmup=Duration(amount=WARMUP * 8 * 32, unit="tokens"))
    assert [learning_rate(small.phase(STEPS, learning_rate=in_tokens), step) for step in range(STEPS)] == rates()


def of(tokens: int, **rate: Any) -> list[float]:
    """The rates of a phase of steps of 256 tokens."""
    phase = PhaseSettings.model_validate({"blend": {"standard": 1}, "tokens": tokens, "batch": 8, "sequence": 32, "learning_rate": {"peak": 1e-3, **rate}})
    return [learning_rate(phase, step) for step in range(phase.steps)]


@pytest.mark.parametrize("decay", [{"decay": "cosine"}, {"decay": "linear"}, {"decay": "constant"}, {"decay": "wsd", "cooldown": "1 step"}])
def test_a_phase_of_one_step_without_warm_up_trains_at_the_peak(decay: dict[str, str]) -> None:
    assert of(1, warmup="0 steps", **decay) == of(256, warmup="0", **decay) == [1e-3]


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_no_warm_up_starts_at_the_peak_and_never_reaches_the_end(decay: str) -> None:
    found = of(4 * 256, warmup="0", decay=decay, end=1e-4)
    assert found[0] == 1e-3 and found == sorted(found, reverse=True) and found[-1] > 1e-4


def test_a_fraction_of_a_step_counts_as_a_whole_one() -> None:
    assert of(4 * 256 + 1, warmup="257", decay="linear") == of(5 * 256, warmup="2 steps", decay="linear")
    assert of(5 * 256, warmup="0", decay="wsd", cooldown="300") == of(5 * 256, warmup="0", decay="wsd", cooldown="2 steps")


def test_re_warm_up_goes_from_where_the_phase_before_ended_to_the_peak() -> None:
    found = of(8 * 256, start=2e-4, warmup="4 steps", decay="constant")
    assert found == pytest.approx([4e-4, 6e-4, 8e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    constant = of_torch(lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.2, 1.0, 4), 9)[1:]
    assert found == pytest.approx(constant)


def test_wsd_may_descend_from_the_last_warm_up_step_on() -> None:
    found = of(6 * 256, warmup="2 steps", decay="wsd", cooldown="4 steps")
    assert found == pytest.approx([5e-4, 1e-3, 1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_the_papers_phases_by_their_formulas() -> None:
    """Section 3: 600 steps up and a cosine from 5.3e-4 to 5.3e-5; 1000 steps up and a line to 0."""
    general, continued = TrainSettings().phases["general"], TrainSettings().phases["continued"]
    middle = 600 + (general.steps - 600) // 2
    progress = (middle - 600) / (general.steps - 600)
    assert learning_rate(general, 299) == pytest.approx(5.3e-4 / 2) and learning_rate(general, 600) == 5.3e-4
    assert learning_rate(general, middle) == pytest.approx(5.3e-5 + 0.5 * (5.3e-4 - 5.3e-5) * (1 + math.cos(math.pi * progress)))
    assert learning_rate(general, general.steps - 1) == pytest.approx(5.3e-5, rel=1e-6)
    assert learning_rate(continued, 999) == learning_rate(continued, 1000) == 5.3e-4
    assert learning_rate(continued, continued.steps - 1) == pytest.approx(5.3e-4 / (continued.steps - 1000))


def test_under_a_batch_ramp_the_rate_is_the_same_function_of_the_tokens_seen() -> None:
    rate = LearningRate(peak=1e-3, end=1e-4, warmup=Duration(amount=40 * 32, unit="tokens"), decay="cosine")
    plain = small.phase(40, batch=4, tokens=400 * 32, learning_rate=rate)
    ramped = plain.model_copy(update={"batch": 20, "batch_ramp": BatchRamp(start=4, increment=8, over=Duration(amount=120 * 32, unit="tokens"))})
    at = {plain.tokens_before(step): learning_rate(plain, step) for step in range(plain.steps)}
    for step in range(ramped.steps):
        if step >= ramped.steps_of(rate.warmup):
            assert learning_rate(ramped, step) == at[ramped.tokens_before(step)]
        else:
            assert learning_rate(ramped, step) == pytest.approx(1e-3 * ramped.tokens_before(step + 1) / (40 * 32))
