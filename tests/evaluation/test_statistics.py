"""Against enumeration, scipy and known distributions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from megatron_snow.evaluation.statistics import bootstrap, compare, mcnemar, pass_at_k


@pytest.mark.parametrize(("samples", "passed", "k"), [(1, 0, 1), (1, 1, 1), (5, 2, 1), (5, 2, 3), (6, 1, 4), (6, 0, 3), (7, 7, 2), (8, 3, 8)])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(samples: int, passed: int, k: int) -> None:
    draws = list(combinations([1] * passed + [0] * (samples - passed), k))
    assert pass_at_k(samples, passed, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws), abs=1e-12)


def test_pass_at_k_of_many_samples() -> None:
    assert pass_at_k(200, 3, 100) == pytest.approx(stats.hypergeom(200, 3, 100).sf(0), rel=1e-9)


def test_the_interval_is_the_binomials() -> None:
    values = [1.0] * 40 + [0.0] * 124
    found = bootstrap(values, seed=1)
    low, high = stats.binom(164, 40 / 164).ppf([0.025, 0.975]) / 164
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015) and found.score == 40 / 164


@pytest.mark.parametrize(("one", "two"), [(0, 0), (3, 9), (9, 3), (10, 10), (0, 6), (1, 30)])
def test_mcnemar_is_the_exact_binomial_test(one: int, two: int) -> None:
    expected = stats.binomtest(min(one, two), one + two, 0.5).pvalue if one + two else 1.0
    assert mcnemar(one, two) == pytest.approx(expected)


def test_a_real_difference_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    base = (rng.random(164) < 0.2).astype(float)
    better = np.maximum(base, (rng.random(164) < 0.15).astype(float))
    assert compare(base, better, 1).beyond_noise and not compare(base, base, 1).beyond_noise
    swapped = base.copy()
    swapped[:4] = 1 - swapped[:4]
    found = compare(base, swapped, 1)
    assert not found.beyond_noise and found.only_first + found.only_second == 4
    assert compare([0.5, 0.2], [0.5, 0.4], 1).p_value is None


def test_noise_is_called_noise_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    calls = [compare((rng.random(100) < 0.3).astype(float), (rng.random(100) < 0.3).astype(float), 1).p_value for _ in range(60)]
    assert sum(p < 0.05 for p in calls if p is not None) <= 7  # 3 expected of a 5 % test; 7 or more in 4 of 100 such runs
