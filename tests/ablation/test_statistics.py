"""Intervals and tests against closed forms, scipy's own, and simulated studies whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from megatron_snow.ablation.statistics import Measured, difference, estimate, holm, verdict


def _measured(amounts, sizes=None, seeds=None):
    amounts = np.asarray(amounts, float)
    sizes = np.ones_like(amounts) if sizes is None else np.broadcast_to(np.asarray(sizes, float), amounts.shape)
    return Measured(tuple(seeds or range(len(amounts))), tuple(map(str, range(amounts.shape[1]))), amounts, sizes)


def test_one_number_a_seed_is_the_paired_t_test():
    a, b = np.array([[1.30], [1.42], [1.35], [1.31]]), np.array([[1.25], [1.31], [1.33], [1.22]])
    found = difference(_measured(a), _measured(b), 200)
    expected = stats.ttest_rel(a[:, 0], b[:, 0])
    low, high = expected.confidence_interval(0.95)
    assert found.value == pytest.approx((a - b).mean())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_is_the_t_interval_over_problems():
    values = np.random.default_rng(0).normal(1, 0.3, (1, 80))
    found = estimate(_measured(values), 20_000)
    low, high = stats.t.interval(0.95, 79, values.mean(), values.std() / np.sqrt(80))
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.02)
    assert found.error_seeds is None


def test_sizes_weigh_the_items():
    found = estimate(_measured([[10, 90], [20, 120]], [10, 30]), 200)
    assert found.value == pytest.approx(((10 + 90) / 40 + (20 + 120) / 40) / 2)


def test_pairs_share_seeds_and_items_only():
    one = Measured((1, 2, 3), ("a", "b", "c"), np.arange(9.0).reshape(3, 3), np.ones((3, 3)))
    other = Measured((3, 2, 7), ("c", "a", "x"), np.zeros((3, 3)), np.ones((3, 3)))
    found = difference(one, other, 200)
    assert (found.seeds, found.items) == (2, 2)
    assert found.value == pytest.approx(np.mean([(6 + 8) / 2, (3 + 5) / 2]))
    assert difference(one, Measured((9,), ("a",), np.zeros((1, 1)), np.ones((1, 1))), 200) is None


def test_what_does_not_vary_has_no_interval():
    same = _measured([[0.8], [0.8]])
    assert estimate(same, 200).low is None
    found = difference(same, same, 200)
    assert (found.value, found.p) == (0, None)
    assert verdict(found, None, True) == "the same in every run"
    assert "not known" in verdict(difference(_measured([[0.9]]), _measured([[0.8]]), 200), None, True)


@pytest.mark.parametrize(("seeds", "items"), [(3, 1), (3, 60), (5, 60)])
def test_where_nothing_differs_it_rarely_finds_a_difference(seeds, items):
    """400 simulated studies without a difference but with seeds, problems and their mix at play: at 5 %, between 1 and 10 % find one."""
    random = np.random.default_rng(seeds * 100 + items)
    found = 0
    for _ in range(400):
        sizes = random.integers(50, 400, items)
        problem, moved = random.normal(1.5, 0.2, items), random.normal(0, 0.05, items) if items > 1 else 0.0
        arms = [problem + shift + random.normal(0, 0.02, (seeds, 1)) + random.normal(0, 0.03, (seeds, items)) for shift in (0.0, moved)]
        one, other = (_measured(arm * sizes, sizes) for arm in arms)
        found += difference(one, other, 200).p < 0.05
    assert 0.01 <= found / 400 <= 0.10


def test_a_real_difference_is_found():
    random = np.random.default_rng(3)
    problem = random.normal(1.5, 0.3, 164)
    one, other = (_measured(problem - better + random.normal(0, 0.01, (3, 1)) + random.normal(0, 0.02, (3, 164))) for better in (0.1, 0.0))
    found = difference(one, other, 500)
    assert found.p < 0.05 and found.low < -0.1 < found.high
    assert verdict(found, found.p, lower_is_better=True) == "better"
    assert verdict(found, found.p, lower_is_better=False) == "worse"
    assert verdict(found, 0.2, True) == "no difference beyond noise"


def test_holm_by_hand_and_in_order():
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
