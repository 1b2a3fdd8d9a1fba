"""Keyed permutations and document streams against their twins and against what a random order should look like."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.blend import native, reference

keys = st.integers(0, 2**64 - 1)


@settings(max_examples=50)
@given(st.integers(1, 700), keys)
def test_permutation_is_one_and_equals_its_twin(size: int, key: int) -> None:
    places = [native.permute(i, size, key) for i in range(size)]
    assert sorted(places) == list(range(size))
    some = sorted({0, size // 2, size - 1})
    assert [places[i] for i in some] == [reference.permute(i, size, key) for i in some]


@settings(max_examples=50)
@given(st.integers(1, 2**48), keys, st.data())
def test_permutation_equals_its_twin_at_any_size(size: int, key: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    assert native.permute(index, size, key) == reference.permute(index, size, key) < size


def test_small_permutations_are_all_equally_likely() -> None:
    """All 24 orders of 4 things over 12,000 keys: chi-square with 23 degrees of freedom, 0.1 % point."""
    seen = dict.fromkeys(itertools.permutations(range(4)), 0)
    trials = 12_000
    for key in range(trials):
        seen[tuple(native.permute(i, 4, key) for i in range(4))] += 1
    expected = trials / 24
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 49.7


@pytest.mark.parametrize("bits", [8, 9, 13, 25])
@pytest.mark.parametrize("pair", [(0, 1), (5, 6), (0, 2**7), (2**7 + 1, 1)])
def test_two_elements_land_independently(bits: int, pair: tuple[int, int]) -> None:
    """Joint places of two elements over 20,000 keys, in 16 x 16 bins by upper and by lower bits: chi-square, 255 degrees of freedom, 1e-5 point."""
    size, trials = 2**bits, 20_000
    first, second = (np.array([native.permute(i, size, key) for key in range(trials)]) for i in pair)
    bin_size = size // 16
    expected = np.full((16, 16), bin_size**2 / (size * (size - 1)))
    np.fill_diagonal(expected, bin_size * (bin_size - 1) / (size * (size - 1)))  # the two cannot land on one place
    for binned in (lambda places: places // bin_size, lambda places: places % 16):
        seen = np.bincount(binned(first) * 16 + binned(second), minlength=256)
        assert ((seen - trials * expected.ravel()) ** 2 / (trials * expected.ravel())).sum() < 360


@pytest.mark.parametrize("documents", [1000, 4097, 100_000])
def test_order_looks_random(documents: int) -> None:
    """Neighbours, distance travelled and runs as in a uniformly random order, within five standard errors over 20 keys."""
    statistics = []
    for key in range(20):
        order = reference.document_order(documents, key)
        steps = np.diff(order)
        statistics.append(
            (np.corrcoef(order[:-1], order[1:])[0, 1], np.corrcoef(order, np.arange(documents))[0, 1], (steps > 0).mean(), np.abs(steps).mean() / documents)
        )
    means = np.mean(statistics, axis=0)
    error = 5 / math.sqrt(20 * documents)
    assert np.abs(means[:2]).max() < error
    assert abs(means[2] - 0.5) < error and abs(means[3] - 1 / 3) < error


@settings(max_examples=60)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=700), keys, st.data())
def test_spans_equal_their_twin(lengths: list[int], key: int, data: st.DataObject) -> None:
    raw = np.zeros(4 * len(lengths) + 2, np.uint8)
    array = np.frombuffer(raw.data, np.int32, len(lengths), offset=2)  # not aligned, as in a mapped .idx
    raw[2:] = np.frombuffer(np.array(lengths, np.int32).tobytes(), np.uint8)
    ours, twin = native.DocumentOrder(array, key), reference.DocumentOrder(array, key)
    assert ours.tokens == twin.tokens == sum(lengths)
    start = data.draw(st.integers(0, ours.tokens))
    count = data.draw(st.integers(0, ours.tokens + 10))
    spans = ours.spans(start, count)
    assert np.array_equal(spans, twin.spans(start, count))
    assert spans[:, 2].sum() == min(count, ours.tokens - start)


def test_wrong_arguments_raise() -> None:
    order = native.DocumentOrder(np.array([3], np.int32), 0)
    for start, count in ((-1, 1), (4, 1), (0, -1)):
        with pytest.raises(IndexError):
            order.spans(start, count)
    with pytest.raises(ValueError, match="negative length"):
        native.DocumentOrder(np.array([3, -1], np.int32), 0)
    with pytest.raises(IndexError):
        native.permute(3, 3, 0)
    with pytest.raises(ValueError, match="2\\^48"):
        native.DocumentOrder(np.array([], np.int32), 0)


def test_more_documents_than_int32_holds(tmp_path: Path) -> None:
    """3 x 2^30 documents, in files of holes: only those of the order's last block have tokens."""
    documents, key = 3 * 2**30, 7
    assert reference.domain_bits(documents) == 32
    block = reference.bijection(np.arange(2**32 - 64, 2**32, dtype=np.uint64), 32, key)
    listed = block[block < documents].astype(np.int64)
    lengths = np.memmap(tmp_path / "lengths", np.int32, "w+", shape=(documents,))
    lengths[listed] = np.arange(1, len(listed) + 1)
    offsets = np.memmap(tmp_path / "offsets", np.int64, "w+", shape=(2**32 // 64 + 1,))
    offsets[-1] = len(listed) * (len(listed) + 1) // 2
    order = native.DocumentOrder(lengths, key, offsets)
    assert order.tokens == offsets[-1] and listed.max() > 2**31
    spans = order.spans(0, order.tokens)
    assert spans[:, 0].tolist() == listed.tolist() and spans[:, 2].tolist() == list(range(1, len(listed) + 1))
    lengths[listed[3]] += 1
    with pytest.raises(ValueError, match="do not belong to these document lengths"):
        order.spans(0, 1)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=700), keys)
def test_a_restored_order_is_the_built_one(lengths: list[int], key: int) -> None:
    array = np.array(lengths, np.int32)
    built = native.DocumentOrder(array, key, 3)
    restored = native.DocumentOrder(array, key, built.offsets)
    assert restored.tokens == built.tokens and np.array_equal(restored.spans(0, built.tokens), built.spans(0, built.tokens))
    with pytest.raises(ValueError, match="another order"):
        native.DocumentOrder(array, key, built.offsets[:-1])


def test_threads_build_the_same_order() -> None:
    """Enough documents for several threads, which then differ in nothing."""
    lengths = np.random.default_rng(0).integers(0, 100, 2**22 + 5).astype(np.int32)
    one, four = native.DocumentOrder(lengths, 9, 1), native.DocumentOrder(lengths, 9, 4)
    assert np.array_equal(one.offsets, four.offsets) and one.tokens == lengths.sum()
