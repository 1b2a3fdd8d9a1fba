"""Which dataset gives sample n of a blend, and its how-manieth sample that is.

Two answers to the same question, both deterministic in (weights, seed), both handing out each dataset's samples in turn
(0, 1, 2, ...), so that no index can lie past the end of a dataset that holds ``counts`` samples:

- ``BlendSplit``: no table, about 0.1 us a look-up, any sample at any time; off the asked proportion by less than 1.5
  samples at any prefix (1 with three datasets or fewer). What training uses.
- ``blend_table``: 12 bytes a sample, built in one pass; off by less than 1 sample at any prefix.

With the datasets' sizes as weights both use every dataset up exactly when their sum is reached (the exhaustive blend).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native

MOST_DATASETS = 2**20  # exact 128-bit arithmetic reaches this far (csrc/weights.hpp)
MOST_SPREAD = 2.0**40  # largest weight over smallest, for the same reason; 1e-9 to 1 is 2**30
MOST_SAMPLES = 2**45  # fixed-point shares are exact enough up to here (csrc/blend_split.cpp)


def _arranged(weights: Sequence[float] | npt.NDArray[np.float64], seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Checked weights in the seed's order, which decides between equals, and the dataset each belongs to."""
    asked = np.asarray(weights, np.float64)
    if asked.ndim != 1 or not 1 <= len(asked) <= MOST_DATASETS:
        raise SnowError(f"a blend needs between 1 and {MOST_DATASETS} weights in a list, these have the shape {asked.shape}")
    wrong = ~(np.isfinite(asked) & (asked > 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise SnowError(f"weight {at} of the blend is {asked[at]}: weights are positive numbers; leave out what should not be used")
    if asked.max() / asked.min() > MOST_SPREAD:
        raise SnowError(f"the blend's weights spread from {asked.min():g} to {asked.max():g}, more than 2^40; leave out the smallest")
    order = np.argsort(_hash(np.arange(len(asked), dtype=np.uint64), seed), kind="stable").astype(np.int32)
    return asked[order], order


def _hash(values: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function over values and seed: uint64, the same on every machine and numpy."""
    z = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _check_samples(first: int, count: int) -> None:
    if first < 0 or count < 0 or first + count > MOST_SAMPLES:
        raise SnowError(f"samples {first} to {first + count} of a blend: they go from 0 to 2^45")


def blend_table(weights: Sequence[float] | npt.NDArray[np.float64], samples: int, seed: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The first ``samples`` samples by Tijdeman's rule: (dataset int32 [samples], index within it int64 [samples]).

    Any positive weights; only their ratios count. Raises SnowError for weights or a number of samples out of range.
    """
    _check_samples(0, samples)
    return native.blend_table(*_arranged(weights, seed), samples)


class BlendSplit:
    """Random access to a blend. Can be pickled: weights and seed travel."""

    def __init__(self, weights: Sequence[float] | npt.NDArray[np.float64], seed: int) -> None:
        """Any positive weights; only their ratios count. Raises SnowError for weights out of range."""
        self._arguments = (weights, seed)
        self._native = native.BlendSplit(*_arranged(weights, seed))

    def __reduce__(self) -> tuple:
        return BlendSplit, self._arguments

    def __getitem__(self, sample: int) -> tuple[int, int]:
        """(dataset, index within it) of one sample."""
        return self._native.at(sample)

    def take(self, first: int, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(dataset int32 [count], index within it int64 [count]) of samples ``first`` and on."""
        _check_samples(first, count)
        return self._native.take(first, count)

    def counts(self, samples: int) -> npt.NDArray[np.int64]:
        """How many of the first ``samples`` samples each dataset gives, int64 [datasets]."""
        _check_samples(0, samples)
        return self._native.counts(samples)
