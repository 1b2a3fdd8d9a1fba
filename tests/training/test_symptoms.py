from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from megatron_snow.training.symptoms import overfitting, repetition
from megatron_snow.training.watch_settings import WatchSettings
from tests.training import small

SETTINGS = WatchSettings(overfit_validations=3, overfit_margin=0.02)
FALLING = [2.0, 1.95, 1.9, 1.85, 1.8, 1.75]


def rows(**losses: list[float]) -> list[dict[str, Any]]:
    return [{"step": 10 * (index + 1), "tier": tier, "loss": loss} for tier, series in losses.items() for index, loss in enumerate(series)]


def test_the_papers_signature_is_told_once_where_it_begins() -> None:
    found = overfitting(rows(high_quality=FALLING, standard=[2.0, 1.99, 2.0, 2.01, 2.02, 2.03]), {"high_quality"}, SETTINGS)
    assert len(found) == 1
    assert "from step 20 to 50 the validation loss of high_quality fell from 1.950 to 1.800 while that of standard rose from 1.990 to 2.020" in found[0]


def test_it_is_told_again_where_it_comes_back() -> None:
    standard = [2.0, 2.01, 2.02, 2.03, 2.0, 2.01, 2.02, 2.03]
    assert len(overfitting(rows(high_quality=[2 - 0.05 * n for n in range(8)], standard=standard), {"high_quality"}, SETTINGS)) == 2


@pytest.mark.parametrize(
    "standard",
    [
        [2.0, 1.99, 1.98, 1.97, 1.96, 1.95],  # learns
        [2.0, 2.02, 2.01, 2.03, 2.02, 2.04],  # noise: never three rises in a row
        [2.0, 2.001, 2.002, 2.003, 2.004, 2.005],  # rises by less than the margin over three validations
        [2.0, 2.1, 2.2],  # too few validations
    ],
)
def test_what_is_no_overfitting_is_not_told(standard: list[float]) -> None:
    assert overfitting(rows(high_quality=FALLING[: len(standard)], standard=standard), {"high_quality"}, SETTINGS) == []


def test_only_a_tier_that_is_trained_on_fits_and_only_one_that_is_not_is_lost() -> None:
    series = rows(high_quality=FALLING, standard=[2.0, 2.1, 2.2, 2.3, 2.4, 2.5], heldout=[2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    assert [("heldout" in one, "standard" in one) for one in overfitting(series, {"high_quality"}, SETTINGS)] == [(True, False), (False, True)]
    assert overfitting(series, {"synthetic"}, SETTINGS) == []
    assert overfitting(series, {"high_quality", "standard"}, SETTINGS)[0].count("heldout rose") == 1
    assert overfitting(rows(standard=FALLING, heldout=[2.0, 2.1, 2.2, 2.3]), {"standard"}, SETTINGS)[0].count("heldout rose") == 1


def test_rows_of_single_languages_are_not_their_tiers() -> None:
    series = rows(high_quality=FALLING, heldout=FALLING)
    rising = rows(heldout=[2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    assert overfitting([*series, *rising], {"high_quality"}, SETTINGS) != []  # as if they were the tier's
    assert overfitting([*series, *(row | {"language": "C"} for row in rising)], {"high_quality"}, SETTINGS) == []


def test_a_validation_that_was_not_finite_is_left_out() -> None:
    series = rows(high_quality=FALLING, standard=[2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    series[7]["loss"] = None
    assert len(overfitting(series, {"high_quality"}, SETTINGS)) == 1


def test_repetition_beyond_the_warning_is_told_by_tier() -> None:
    found = repetition({"high_quality": 4.0, "synthetic": 11.3}, small.phase(blend={"high_quality": 1, "synthetic": 1}, max_epochs=200))
    assert list(found) == ["synthetic"]
    assert "synthetic has been gone through 11.3 times, warn_epochs is 4 (max_epochs allows 200)" in found["synthetic"]


@pytest.mark.parametrize(
    "wrong",
    [{"overfit_validations": 0}, {"overfit_margin": -1}, {"peak_flops": 0}, {"wandb": {}}, {"wandb": {"project": "x", "mode": "maybe"}}],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatchSettings.model_validate(wrong)
