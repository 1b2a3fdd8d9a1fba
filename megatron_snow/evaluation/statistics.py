"""pass@k, its intervals, and whether two models differ by more than noise.

pass@k is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, section 2.1): of n samples of which c pass, 1 - C(n-c, k) / C(n, k), averaged over
problems. Intervals are percentile bootstraps over problems (Efron 1979). Two models on the same problems: a paired bootstrap of the difference, and
McNemar's exact test on the problems that one alone solves (greedy only).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000  # ours: the interval's ends move by less than a tenth of its width from seed to seed
LEVEL = 0.95


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Of one problem; ``k`` <= ``samples``."""
    if samples - passed < k:
        return 1.0
    return 1.0 - math.exp(sum(math.log1p(-k / number) for number in range(samples - passed + 1, samples + 1)))


@dataclass(frozen=True)
class Score:
    """A mean over problems with its interval."""

    score: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int, draws: int = DRAWS, level: float = LEVEL) -> Score:
    """The mean of ``values`` and the percentile interval of the means of resampled ``values``."""
    found = np.asarray(values, dtype=np.float64)
    means = _resampled(found, seed, draws)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Score(float(found.mean()), float(low), float(high))


def _resampled(values: np.ndarray, seed: int, draws: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(draws)])


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that the problems one model alone solves fall to either alike (McNemar 1947, binomial)."""
    trials, least = only_first + only_second, min(only_first, only_second)
    if trials == 0:
        return 1.0
    tail = sum(math.comb(trials, number) for number in range(least + 1)) / 2**trials
    return min(1.0, 2 * tail)


@dataclass(frozen=True)
class Difference:
    """Second model minus first, on the same problems."""

    difference: Score
    only_first: int
    only_second: int
    p_value: float | None
    """McNemar's; None where more than one sample a problem was drawn."""

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 0 and, where there is a test, it is below 5 %."""
        apart = self.difference.low > 0 or self.difference.high < 0
        return apart and (self.p_value is None or self.p_value < 1 - LEVEL)


def compare(first: Sequence[float], second: Sequence[float], seed: int) -> Difference:
    """Of two models' shares of passing samples, problem by problem in the same order."""
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    greedy = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(two, (0.0, 1.0)).all())
    only_first, only_second = int((one > two).sum()), int((two > one).sum())
    return Difference(bootstrap((two - one).tolist(), seed), only_first, only_second, mcnemar(only_first, only_second) if greedy else None)
