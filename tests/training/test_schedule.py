from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_snow.artifacts.units import Duration
from megatron_snow.training.schedule import learning_rate
from megatron_snow.training.settings import LearningRate
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
