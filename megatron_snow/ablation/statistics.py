"""What can be said of a difference: intervals over seeds and problems, a test, a correction for many.

A metric is measured by items (problems, files; or one number) for every seed: ``sum of amounts / sum of sizes`` (bits over bytes, passes
over problems). Two kinds of chance move it: another seed would train another model, another sample of problems would ask other
questions. Both are bootstrapped, crossed: problems are drawn once a resample for all seeds and both arms, since every run saw the
same ones; differences are taken seed by seed and problem by problem before anything is drawn.

Percentiles of the bootstrap over three seeds are far too narrow: where nothing differed they found a difference in 5 to 28 % of 600
simulated studies, at 5 % asked for; what is done here did in 4 to 7 % (LOG.md, 2026-11-26).
The bootstrap gives two standard errors, of seeds and of problems; the seeds' is enlarged by sqrt(n / (n - 1)), as its spread is that
of n draws around their own mean (Hesterberg, The American Statistician 69, 2015, section 3.2); and the interval is t's, with Welch and
Satterthwaite's degrees of freedom for the sum of the two. With one seed only the problems' chance is known, which is said.

Test: H0, no difference, by the same t. Of several comparisons of one metric Holm's step-down keeps the chance of a single false
finding at 5 % (Scandinavian Journal of Statistics 6, 1979). What is left above that is "no difference beyond noise".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.05  # the convention
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One metric of one arm: amounts and sizes [seeds, items]; ``items`` are the same for every arm that is compared."""

    seeds: tuple[int, ...]
    items: tuple[str, ...]
    amounts: Array
    sizes: Array

    def restricted(self, seeds: Sequence[int], items: Sequence[str]) -> Measured:
        """Only these seeds and items, in this order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        place = {item: index for index, item in enumerate(self.items)}
        columns = [place[item] for item in items]
        return Measured(tuple(seeds), tuple(items), self.amounts[np.ix_(rows, columns)], self.sizes[np.ix_(rows, columns)])

    @property
    def by_seed(self) -> list[float]:
        """The metric of each seed's run."""
        return (self.amounts.sum(1) / self.sizes.sum(1)).tolist()


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a mean difference, with what is known of its chance."""

    value: float
    low: float | None
    high: float | None
    """95 % interval; None where neither seeds nor problems vary it."""
    p: float | None
    """Of H0, the value is 0; only means something for a difference."""
    seeds: int
    items: int
    error_seeds: float | None
    error_items: float | None
    """Standard errors; None where there is one seed, or one item."""


def estimate(arm: Measured, resamples: int, seed: int = 0) -> Estimate:
    """An arm's own metric."""
    return _estimate([arm], resamples, seed)


def difference(arm: Measured, against: Measured, resamples: int, seed: int = 0) -> Estimate | None:
    """``arm`` less ``against``, paired by seed and item; None where they share none."""
    seeds = [one for one in arm.seeds if one in against.seeds]
    shared = set(against.items)
    items = [item for item in arm.items if item in shared]
    if not seeds or not items:
        return None
    return _estimate([arm.restricted(seeds, items), against.restricted(seeds, items)], resamples, seed)


def _estimate(sides: Sequence[Measured], resamples: int, seed: int) -> Estimate:
    """Of the first side, less the second where there is one."""
    count, size = sides[0].amounts.shape
    whole = _values(sides, np.ones((1, size)))[:, 0]
    value = float(whole.mean())
    random = np.random.default_rng(seed)
    by_seed = by_item = None
    if count > 1:
        by_seed = float(whole.std(ddof=1) / math.sqrt(count))  # of a mean, the enlarged bootstrap's limit has this closed form
    if size > 1:
        weights = random.multinomial(size, np.full(size, 1 / size), resamples).astype(np.float64)
        by_item = float(_values(sides, weights).mean(0).std())
    low, high, p = _interval(value, by_seed, by_item, count, size)
    return Estimate(value, low, high, p, count, size, by_seed, by_item)


def _values(sides: Sequence[Measured], weights: Array) -> Array:
    """[seeds, resamples]: the metric (or difference) of every seed under each row of item weights."""
    found = []
    for side in sides:
        sizes = side.sizes @ weights.T
        found.append(np.divide(side.amounts @ weights.T, sizes, out=np.zeros_like(sizes), where=sizes > 0))
    return found[0] - found[1] if len(found) > 1 else found[0]


def _interval(value: float, by_seed: float | None, by_item: float | None, seeds: int, items: int) -> tuple[float | None, float | None, float | None]:
    """t's interval and two-sided p of the value, with Welch and Satterthwaite's degrees of freedom."""
    from scipy.stats import t

    parts = [(error**2, count - 1) for error, count in ((by_seed, seeds), (by_item, items)) if error]
    if not parts:
        return None, None, None
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    reach = float(t.ppf(1 - LEVEL / 2, freedom)) * error
    return value - reach, value + reach, float(2 * t.sf(abs(value) / error, freedom))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p of each; None stays None and does not count."""
    order = sorted((p, index) for index, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


def verdict(found: Estimate, adjusted: float | None, lower_is_better: bool) -> str:
    """In words: ``better``, ``worse``, ``no difference beyond noise``, or that nothing can be said."""
    if found.value == 0 and adjusted is None:
        return "the same in every run"
    if adjusted is None:
        return "one number: its noise is not known"
    if adjusted >= LEVEL:
        return "no difference beyond noise"
    return "better" if (found.value < 0) == lower_is_better else "worse"
