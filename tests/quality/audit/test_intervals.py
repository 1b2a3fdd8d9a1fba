import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from megatron_snow.quality.audit.intervals import auc, bootstrap, estimate, spearman


def test_the_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), [str(i) for i in range(400)], 2000, 1)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02) and high == pytest.approx(values.mean() + half, abs=0.02)


def test_files_of_one_repository_are_drawn_together():
    """Ten copies of each value tell no more than the value: the interval is that of the values alone."""
    values = np.random.default_rng(0).normal(size=40)
    copies, groups = np.repeat(values, 10), [str(i) for i in np.repeat(np.arange(40), 10)]
    alone = bootstrap(lambda rows: float(values[rows].mean()), [str(i) for i in range(40)], 2000, 1)
    together = bootstrap(lambda rows: float(copies[rows].mean()), groups, 2000, 1)
    naive = bootstrap(lambda rows: float(copies[rows].mean()), [str(i) for i in range(400)], 2000, 1)
    assert together == pytest.approx(alone, abs=0.05)
    assert naive[1] - naive[0] < 0.5 * (together[1] - together[0])


def test_statistics_are_the_libraries():
    random = np.random.default_rng(2)
    x, y = random.integers(0, 9, 200).astype(float), random.normal(size=200)
    rows = random.integers(0, 200, 300)
    assert spearman(x, y)(rows) == pytest.approx(stats.spearmanr(x[rows], y[rows]).statistic)
    positive = random.random(200) < 0.3
    assert auc(positive, x)(rows) == pytest.approx(roc_auc_score(positive[rows], x[rows]))
    assert auc(positive, x)(np.flatnonzero(positive)) is None and spearman(np.ones(200), y)(rows) is None


def test_classes_keep_their_sizes_and_the_seed_decides():
    positive = np.arange(50) < 5
    seen = []
    groups = [str(i) for i in range(50)]
    bootstrap(lambda rows: seen.append(positive[rows].sum()) or 0.0, groups, 100, 0, positive)
    assert set(seen) == {5}
    values = np.arange(50.0)
    one, two, other = (estimate(lambda rows: float(values[rows].mean()), groups, 200, seed) for seed in (0, 0, 1))
    assert one == two != other and one["value"] == 24.5


def test_no_interval_where_most_resamples_have_no_value():
    assert bootstrap(lambda rows: None, list("abcdef"), 100, 0) is None


def test_files_of_a_single_repository_have_no_interval() -> None:
    """Drawn whole, one repository is the same sample each time: an interval of no width would claim certainty."""
    values = np.random.default_rng(0).normal(size=40)
    mean = lambda rows: float(values[rows].mean())  # noqa: E731
    assert bootstrap(mean, ["one"] * 40, 100, 0) is None and bootstrap(mean, ["one", "two"] * 20, 100, 0) is None
    assert bootstrap(mean, [str(i % 5) for i in range(40)], 100, 0) is not None
    many_and_one = np.array([0] * 20 + [1] * 20)
    assert bootstrap(mean, [*map(str, range(20)), *["one"] * 20], 100, 0, many_and_one) is None
