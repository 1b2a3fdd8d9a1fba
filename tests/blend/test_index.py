"""The blend index against its definition (the asked proportion), its Python twin and megatron-core."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native, reference
from megatron_snow.blend.index import BlendSplit, blend_table

SKEWED = {
    "half and 1023 equal": [0.5] + [0.5 / 1023] * 1023,
    "Zipf": [1 / (rank + 1) for rank in range(1024)],
    "0.9 0.09 0.01": [0.9, 0.09, 0.01],
    "equal": [1.0] * 1024,
    "one": [1.0],
    "extreme": [1.0, 1e-9, 1e-9],
    "doubling": [2.0**-k for k in range(30)],
    "Fibonacci": [1e-6, 1, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987],
}
weight = st.floats(1e-9, 1.0)
weights_lists = st.one_of(
    st.lists(weight, min_size=1, max_size=40),
    st.lists(st.sampled_from([1e-9, 1e-6, 0.01, 1 / 3, 0.5, 1.0]), min_size=1, max_size=40),
    st.lists(st.integers(1, 10**12).map(float), min_size=1, max_size=8),
)
seeds = st.integers(-(2**63), 2**63)


def deviation(weights: list[float], dataset_of: np.ndarray) -> Fraction:
    """Largest |samples taken - asked| over datasets and prefixes, exactly (just before and just after each sample)."""
    exact = [Fraction(w) for w in weights]
    total = sum(exact)
    worst = Fraction(0)
    for dataset, asked in enumerate(exact):
        places = np.flatnonzero(dataset_of == dataset).tolist()
        share = asked / total
        for taken, n in enumerate([*places, len(dataset_of)]):
            worst = max(worst, n * share - taken)  # most behind: before its next sample (or at the end)
            if n < len(dataset_of):
                worst = max(worst, taken + 1 - (n + 1) * share)  # most ahead: right after it
    return worst


def within_increments(dataset_of: np.ndarray, index_of: np.ndarray) -> bool:
    return all(np.array_equal(index_of[dataset_of == d], np.arange((dataset_of == d).sum())) for d in np.unique(dataset_of))


@pytest.mark.parametrize("name", SKEWED)
def test_table_stays_within_one_sample(name: str) -> None:
    weights = SKEWED[name]
    dataset_of, index_of = blend_table(weights, 6000, seed=1)
    bound = 1 - Fraction(1, 2 * len(weights) - 2) if len(weights) > 1 else Fraction(0)  # Tijdeman's theorem
    assert deviation(weights, dataset_of) <= bound
    assert within_increments(dataset_of, index_of)


@pytest.mark.parametrize("name", SKEWED)
def test_split_stays_within_one_and_a_half(name: str) -> None:
    weights = SKEWED[name]
    dataset_of, index_of = BlendSplit(weights, seed=1).take(0, 6000)
    assert deviation(weights, dataset_of) <= (1 if len(weights) <= 3 else Fraction(3, 2))
    assert within_increments(dataset_of, index_of)


@settings(max_examples=150)
@given(weights_lists, seeds, st.integers(0, 300))
def test_table_equals_its_twin_and_keeps_the_bound(weights: list[float], seed: int, samples: int) -> None:
    dataset_of, index_of = blend_table(weights, samples, seed)
    names = np.random.default_rng(abs(seed)).permutation(len(weights)).astype(np.int32)
    ours = native.blend_table(np.array(weights), names, samples)
    twin = reference.blend_table(np.array(weights), names, samples)
    assert np.array_equal(ours[0], twin[0]) and np.array_equal(ours[1], twin[1])
    assert deviation(weights, dataset_of) <= 1 and within_increments(dataset_of, index_of)
    assert np.array_equal(dataset_of, blend_table(weights, samples, seed)[0])


@settings(max_examples=150)
@given(weights_lists, seeds, st.integers(0, 300), st.integers(0, 2**44))
def test_split_equals_its_twin_and_keeps_the_bound(weights: list[float], seed: int, samples: int, far: int) -> None:
    names = np.random.default_rng(abs(seed)).permutation(len(weights)).astype(np.int32)
    ours, twin = native.BlendSplit(np.array(weights), names), reference.BlendSplit(np.array(weights), names)
    for first in (0, far):
        a, b = ours.take(first, samples), twin.take(first, samples)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert ours.at(far) == twin.at(far)
    assert np.array_equal(ours.counts(far), twin.counts(far)) and ours.counts(far).sum() == far
    public = BlendSplit(weights, seed)
    dataset_of, index_of = public.take(0, samples)
    assert deviation(weights, dataset_of) <= 1.5 and within_increments(dataset_of, index_of)
    assert np.array_equal(np.bincount(dataset_of, minlength=len(weights)), public.counts(samples))


@settings(max_examples=60)
@given(weights_lists, st.integers(0, 2**44))
def test_split_keeps_the_bound_far_out(weights: list[float], samples: int) -> None:
    total = sum(Fraction(w) for w in weights)
    for w, taken in zip(weights, BlendSplit(weights, 0).counts(samples).tolist(), strict=True):
        assert abs(taken - samples * Fraction(w) / total) <= Fraction(3, 2)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=30))
def test_sizes_as_weights_use_every_dataset_up(sizes: list[int]) -> None:
    """The exhaustive blend: after sum(sizes) samples each dataset gave exactly its size."""
    for dataset_of in (blend_table(sizes, sum(sizes), 3)[0], BlendSplit(sizes, 3).take(0, sum(sizes))[0]):
        assert np.bincount(dataset_of, minlength=len(sizes)).tolist() == sizes


def test_more_datasets_than_int16_holds() -> None:
    weights = np.random.default_rng(0).random(100_000) + 1e-9
    for dataset_of, index_of in (blend_table(weights, 300_000, 0), BlendSplit(weights, 0).take(0, 300_000)):
        assert dataset_of.dtype == np.int32 and index_of.dtype == np.int64
        assert dataset_of.min() >= 0 and dataset_of.max() > 2**15
        asked = 300_000 * weights / weights.sum()
        assert np.abs(np.bincount(dataset_of, minlength=len(weights)) - asked).max() < 1.5


@pytest.mark.parametrize("weights", [[0.001, 0.999], [1e-9, 1.0], [1e-9] * 1000 + [1.0], [0.5] + [0.5 / 1023] * 1023])
@pytest.mark.parametrize("samples", [1, 7, 1000, 20_000])
def test_no_index_past_a_datasets_end(weights: list[float], samples: int) -> None:
    """Megatron-LM issue 705. ``counts`` is what each dataset must hold, exactly: no surplus of 0.5 % to hope on."""
    split = BlendSplit(weights, 0)
    sizes = split.counts(samples)
    dataset_of, index_of = split.take(0, samples)
    assert (index_of < sizes[dataset_of]).all() and sizes.sum() == samples
    dataset_of, index_of = blend_table(weights, samples, 0)
    asked = samples * np.array(weights) / sum(weights)
    assert (index_of < np.ceil(asked)[dataset_of] + 1).all()


def test_samples_beyond_int32() -> None:
    split = BlendSplit([0.9, 0.09, 0.01], 0)
    dataset, index = split[2**40]
    assert index == split.counts(2**40)[dataset] > 2**31


def test_seed_decides_between_equals() -> None:
    runs = [blend_table([1.0] * 50, 50, seed)[0] for seed in (1, 2, 1)]
    assert np.array_equal(runs[0], runs[2]) and not np.array_equal(runs[0], runs[1])
    assert BlendSplit([1.0] * 50, 1)[0] != BlendSplit([1.0] * 50, 2)[0] or BlendSplit([1.0] * 50, 1)[1] != BlendSplit([1.0] * 50, 2)[1]


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [-1.0], [math.nan], [math.inf], [1.0, 1e-13], [[1.0]]])
def test_weights_out_of_range_are_refused(weights: list) -> None:
    for make in (lambda: blend_table(weights, 1, 0), lambda: BlendSplit(weights, 0)):
        with pytest.raises(SnowError, match="weight"):
            make()


def test_samples_out_of_range_are_refused() -> None:
    for make in (lambda: blend_table([1.0], -1, 0), lambda: BlendSplit([1.0], 0).take(2**45, 1), lambda: BlendSplit([1.0], 0).counts(-1)):
        with pytest.raises(SnowError, match="samples"):
            make()
    with pytest.raises(IndexError):
        BlendSplit([1.0], 0)[-1]
