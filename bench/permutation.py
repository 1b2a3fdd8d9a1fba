#!/usr/bin/env python3
"""Is the keyed permutation as good a shuffle as numpy's? The same statistics of both, over many keys.

    python bench/permutation.py [--size 100_003] [--keys 2_000]

Each statistic is turned into a number that is standard normal for a uniformly random order; shown are the mean and the
standard deviation over the keys, and the probability of as large a mean (two-sided) under a perfect shuffle:

- position, lag 1, lag 7: correlation of an element with its place, with its neighbour, with the seventh after it
- ascents: neighbours in rising order
- kept neighbours: pairs i, i + 1 that stay next to each other (expected 2; Poisson)
- chi-square: places of 64 fixed elements in 32 bins over all keys; and of a pair of elements in 8 x 8 bins
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from megatron_snow.blend import reference


def statistics(order: np.ndarray) -> dict[str, float]:
    """Standard normal each, for a uniformly random order."""
    n = len(order)
    centred = (order - (n - 1) / 2) / math.sqrt((n * n - 1) / 12)
    place = (np.arange(n) - (n - 1) / 2) / math.sqrt((n * n - 1) / 12)
    steps = np.diff(order)
    return {
        "position": float(centred @ place / math.sqrt(n)),
        "lag 1": float((centred[:-1] @ centred[1:] + 1) / math.sqrt(n)),  # a permutation's own sum makes neighbours repel by 1/n
        "lag 7": float((centred[:-7] @ centred[7:] + 1) / math.sqrt(n)),
        "ascents": float(((steps > 0).sum() - (n - 1) / 2) / math.sqrt((n + 1) / 12)),
        "kept neighbours": float(((np.abs(steps) == 1).sum() - 2) / math.sqrt(2)),
    }


def chi_squares(places: np.ndarray, size: int) -> tuple[float, float]:
    """p-values of places [keys, elements]: each element's place over 32 bins, summed; pairs over 8 x 8 bins, summed."""
    keys, elements = places.shape
    edges = np.arange(33) * size // 32
    expected = keys * np.diff(edges) / size
    single = sum(float(((np.histogram(places[:, e], edges)[0] - expected) ** 2 / expected).sum()) for e in range(elements))
    coarse = places * 8 // size
    pair_total, cells = 0.0, keys / 64
    for e in range(0, elements - 1, 2):
        seen = np.bincount(coarse[:, e] * 8 + coarse[:, e + 1], minlength=64)
        pair_total += float(((seen - cells) ** 2 / cells).sum())
    return float(stats.chi2.sf(single, 31 * elements)), float(stats.chi2.sf(pair_total, 63 * (elements // 2)))


def study(name: str, make: Callable[[int], np.ndarray], size: int, keys: int) -> None:
    """One table."""
    watched = np.concatenate((np.arange(32), size // 2 + np.arange(32)))  # neighbours: where a weak mixer would show
    found: dict[str, list[float]] = {}
    places = np.empty((keys, len(watched)), np.int64)
    inverse = np.empty(size, np.int64)
    for key in range(keys):
        order = make(key)
        inverse[order] = np.arange(size)
        places[key] = inverse[watched]
        for what, value in statistics(order.astype(np.float64)).items():
            found.setdefault(what, []).append(value)
    print(f"\n{name}: {size:,} elements, {keys:,} keys\n{'':18}{'mean':>9}{'deviation':>11}{'p of mean':>11}")
    for what, values in found.items():
        mean = float(np.mean(values))
        print(f"{what:18}{mean:9.4f}{np.std(values):11.4f}{2 * stats.norm.sf(abs(mean) * math.sqrt(keys)):11.3f}")
    single, pair = chi_squares(places, size)
    print(f"{'chi-square':18}p {single:.3f} for single elements, p {pair:.3f} for pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_003)
    parser.add_argument("--keys", type=int, default=2000)
    options = parser.parse_args()
    study("ours", lambda key: reference.document_order(options.size, key), options.size, options.keys)
    study("numpy's shuffle", lambda key: np.random.default_rng(key).permutation(options.size), options.size, options.keys)


if __name__ == "__main__":
    main()
