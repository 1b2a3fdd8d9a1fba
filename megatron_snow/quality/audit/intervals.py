"""Bootstrap intervals: percentiles of a statistic over resampled groups.

Files of one repository are alike, so whole repositories are drawn where files have one (a cluster bootstrap): the interval is wider
than one that takes files as independent, and honest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LEVEL = 0.95  # of every interval
_LEAST = 5  # groups of a stratum (ours: files of one or two repositories, drawn whole, would seem to have hardly any spread)


def bootstrap(
    statistic: Callable[[np.ndarray], float | None], groups: Sequence[str], resamples: int, seed: int, strata: np.ndarray | None = None
) -> list[float] | None:
    """[low, high] of ``statistic(rows)``, where rows are the indices of a resample; None where groups, or resamples with a value, are too few.

    ``groups``: of each row, drawn whole. ``strata``: within each of its values as many groups are drawn as there are.
    """
    names = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    strata = np.zeros(len(names), dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
    members: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(strata.tolist(), names.tolist(), strict=True)):
        members.setdefault(key, []).append(row)
    by_stratum: dict[int, list[np.ndarray]] = {}
    for (stratum, _), rows in sorted(members.items()):
        by_stratum.setdefault(stratum, []).append(np.array(rows))
    if min(map(len, by_stratum.values()), default=0) < _LEAST:
        return None
    random = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = [groups[i] for groups in by_stratum.values() for i in random.integers(0, len(groups), len(groups))]
        value = statistic(np.concatenate(drawn))
        if value is not None and np.isfinite(value):
            found.append(value)
    if len(found) < resamples // 2:
        return None
    tail = (1 - LEVEL) / 2
    return [float(value) for value in np.quantile(found, [tail, 1 - tail])]


def estimate(
    statistic: Callable[[np.ndarray], float | None], groups: Sequence[str], resamples: int, seed: int, strata: np.ndarray | None = None
) -> dict[str, Any]:
    """``value`` over all rows and its ``interval``."""
    value = statistic(np.arange(len(groups)))
    return {"value": None if value is None or not np.isfinite(value) else float(value), "interval": bootstrap(statistic, groups, resamples, seed, strata)}


def spearman(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """Spearman's rank correlation over rows; None where one side is constant."""
    from scipy.stats import rankdata

    def over(rows: np.ndarray) -> float | None:
        a, b = rankdata(x[rows]), rankdata(y[rows])
        if a.std() == 0 or b.std() == 0:
            return None
        return float(np.corrcoef(a, b)[0, 1])

    return over


def auc(positive: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """ROC-AUC over rows by the rank sum (Mann and Whitney), ties counted half; None where one class is missing."""
    from scipy.stats import rankdata

    def over(rows: np.ndarray) -> float | None:
        some, ranks = positive[rows], rankdata(scores[rows])
        good = int(some.sum())
        bad = len(some) - good
        return (float(ranks[some].sum()) - good * (good + 1) / 2) / (good * bad) if good and bad else None

    return over
