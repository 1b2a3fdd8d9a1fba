"""Word n-grams, their MinHash bands and similarities: C++ against the Python twin, the twin against sets of tuples, both against published numbers."""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.corpus import native, reference
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import band_keys, ngrams, similarities

SETTINGS = NearDuplicateSettings()
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=30).map(lambda words: " ".join(words).encode())
TEXTS = st.one_of(WORDS, st.text(max_size=80).map(str.encode), st.binary(max_size=80), st.text("a_1 \n.(é", max_size=120).map(str.encode))


def tuples(text: str, width: int) -> set[tuple[str, ...]]:
    """n-grams as tuples of an ASCII text; all words where they are fewer, the text itself where there are none."""
    words = re.findall(r"[A-Za-z0-9_]+", text)
    if not words:
        return {("", text)}
    width = min(width, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}


def test_fnv_and_splitmix_are_the_published_ones() -> None:
    """Test vectors of draft-eastlake-fnv, appendix C (64 bits), and SplitMix64's first outputs for seed 1234567 (Rosetta Code)."""
    assert [reference.fnv1a(text) for text in (b"", b"a", b"foobar")] == [0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8]
    stream = reference.split_mix(1234567)
    assert [next(stream) for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(TEXTS, st.integers(1, 7))
def test_ngrams_are_the_twins(text: bytes, width: int) -> None:
    assert ngrams(text, width).tolist() == reference.ngrams(text, width)


@given(st.lists(TEXTS, max_size=4), st.integers(1, 6), st.integers(1, 5), st.integers(1, 12), st.integers(1, 3))
def test_band_keys_are_the_twins(texts: list[bytes], width: int, bands: int, rows: int, threads: int) -> None:
    keys = native.band_keys(texts, width, bands, rows, threads)
    assert keys.shape == (len(texts), bands) and keys.dtype == np.uint64
    assert keys.tolist() == [reference.band_keys(text, width, bands, rows) for text in texts]


@given(WORDS, WORDS, st.integers(1, 6))
def test_similarity_is_that_of_the_sets(a: bytes, b: bytes, width: int) -> None:
    first, second = tuples(a.decode(), width), tuples(b.decode(), width)
    expected = len(first & second) / len(first | second)
    assert reference.jaccard(a, b, width) == pytest.approx(expected)
    assert similarities([a, b], np.array([[0, 1], [1, 1]]), width).tolist() == [expected, 1.0]


def test_layout_and_punctuation_do_not_count() -> None:
    assert np.array_equal(ngrams(b"def f(a, b):\n    return a+b", 5), ngrams(b"def f ( a , b ) : return a + b;", 5))


def test_short_documents_are_like_themselves_only() -> None:
    """BigCode's public script gives every document under 5 words the empty set, and makes all of them one cluster."""
    texts = [text.encode() for text in ["x", "y", "x y", "y x", "a b c d", "", "!", "?", "++"]]
    keys = band_keys(texts, SETTINGS)
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(i)])
    assert not similarities(texts, pairs, 5).any()
    assert not any((keys[i] == keys[j]).any() for i, j in pairs)


def test_equal_documents_share_every_band_in_any_batch_and_thread() -> None:
    texts = [" ".join(f"w{i * 7 + j}" for j in range(100)).encode() for i in range(70)]
    together = band_keys(texts, SETTINGS, threads=4)
    assert together.shape == (70, 25)
    assert np.array_equal(together, np.concatenate([band_keys([one], SETTINGS) for one in texts]))


@pytest.mark.parametrize(("common", "own"), [(50, 50), (70, 30), (90, 10)])
def test_probability_of_a_shared_band_follows_the_formula(common: int, own: int) -> None:
    """P = 1 - (1 - J^rows)^bands over 400 pairs (tolerance: 4 standard deviations)."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(400):
        words = [f"w{value}" for value in rng.integers(0, 2**60, common + own)]
        texts += [" ".join(words[: common + own // 2]).encode(), " ".join(words[:common] + words[common + own // 2 :]).encode()]
    keys = native.band_keys(texts, 1, 10, 4)
    shared = (keys[::2] == keys[1::2]).any(axis=1).mean()
    similarity = common / (common + own)
    expected = 1 - (1 - similarity**4) ** 10
    assert abs(shared - expected) < 4 * np.sqrt(expected * (1 - expected) / 400) + 1e-9


def test_the_estimate_has_the_mean_and_the_spread_of_independent_permutations() -> None:
    """With one row a band, equal bands are equal minima: a binomial share of 1,000 with mean J and variance J (1 - J) / 1,000."""
    rng = np.random.default_rng(1)
    common, own, pairs, hashes = 60, 40, 300, 1_000
    texts = []
    for _ in range(pairs):
        words = [f"w{value}" for value in rng.integers(0, 2**60, common + own)]
        texts += [" ".join(words[: common + own // 2]).encode(), " ".join(words[:common] + words[common + own // 2 :]).encode()]
    keys = native.band_keys(texts, 1, hashes, 1)
    estimates = (keys[::2] == keys[1::2]).mean(axis=1)
    deviation = np.sqrt(0.6 * 0.4 / hashes)
    assert abs(estimates.mean() - 0.6) < 4 * deviation / np.sqrt(pairs)
    assert 0.8 < estimates.std() / deviation < 1.2  # a standard deviation from 300 values is known to 4 %


def test_other_threads_run_meanwhile() -> None:
    """The GIL is released: a Python thread makes progress during one long call."""
    text = os.urandom(2**20).hex().encode() * 4
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    native.band_keys([text[i:] for i in range(16)], 1, 64, 32)
    during = ticks[0] - before
    stop.set()
    thread.join()
    assert during > 3


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="an n-gram has 1 to 1024 words, not 0"):
        native.ngrams(b"a", 0)
    with pytest.raises(ValueError, match="bands x rows must be 1 to 4096"):
        native.band_keys([b"a"], 5, 2**40, 2**40)
    with pytest.raises(TypeError):
        native.band_keys(["not bytes"], 5, 1, 1)
    for pairs in (np.array([[0, 1]]), np.array([[-1, 0]])):
        with pytest.raises(ValueError, match="of 1"):
            native.similarities([b"a"], pairs, 5)
    with pytest.raises(ValueError, match=r"int64 \[pairs, 2\]"):
        native.similarities([b"a"], np.array([0, 0]), 5)


def test_hashes_do_not_change_between_versions() -> None:
    """Frozen: spools of a killed run must fit the signatures of the run that goes on."""
    assert ngrams(b"eins zwei drei", 2).tolist() == reference.ngrams(b"eins zwei drei", 2)
    assert native.band_keys(["Größe = 1".encode()], 5, 2, 3)[0].tolist() == [0x497B04FF28FB49E7, 0x607EB257B67D5D21]
