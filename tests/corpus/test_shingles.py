"""Word n-grams and their MinHash bands, against sets of tuples."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import Shingler, band_keys, jaccard

SETTINGS = NearDuplicateSettings()
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=30).map(" ".join)


def ngrams(text: str, width: int) -> set[tuple[str, ...]]:
    """The reference: n-grams as tuples; all words where they are fewer, the text itself where there are none."""
    words = re.findall(r"\w+", text)
    if not words:
        return {("", text)}
    width = min(width, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}


@given(WORDS, WORDS, st.integers(1, 6))
def test_jaccard_is_that_of_the_sets(a: str, b: str, width: int) -> None:
    shingler = Shingler(width)
    first, second = ngrams(a, width), ngrams(b, width)
    assert len(shingler.shingles(a)) == len(first)
    assert jaccard(shingler.shingles(a), shingler.shingles(b)) == len(first & second) / len(first | second)


def test_layout_and_punctuation_do_not_count() -> None:
    shingler = Shingler(5)
    assert np.array_equal(shingler.shingles("def f(a, b):\n    return a+b"), shingler.shingles("def f ( a , b ) : return a + b;"))


def test_short_documents_are_like_themselves_only() -> None:
    """BigCode's public script gives every document under 5 words the empty set, and makes all of them one cluster."""
    shingler = Shingler(5)
    texts = ["x", "y", "x y", "y x", "a b c d", "", "!", "?", "++"]
    sets = [shingler.shingles(text) for text in texts]
    keys = band_keys(sets, SETTINGS)
    for i in range(len(texts)):
        for j in range(i):
            assert jaccard(sets[i], sets[j]) == 0 and not (keys[i] == keys[j]).any(), (texts[i], texts[j])


def test_equal_documents_share_every_band_in_any_batch() -> None:
    shingler = Shingler(5)
    sets = [shingler.shingles(" ".join(f"w{i * 7 + j}" for j in range(100))) for i in range(20)]
    together = band_keys(sets, SETTINGS)
    assert together.shape == (20, 25) and together.dtype == np.uint64
    assert np.array_equal(together, np.concatenate([band_keys([one], SETTINGS) for one in sets]))


def test_probability_of_a_shared_band_follows_the_formula() -> None:
    """P = 1 - (1 - J^rows)^bands, at three similarities, 300 pairs each (tolerance: 4 standard deviations)."""
    settings = NearDuplicateSettings(permutations=40, bands=10, rows=4)
    rng = np.random.default_rng(0)
    for common, own in ((50, 50), (70, 30), (90, 10)):
        sets = []
        for _ in range(300):
            values = rng.integers(0, 2**63, common + own, dtype=np.uint64)
            sets += [np.sort(values[: common + own // 2]), np.sort(np.concatenate([values[:common], values[common + own // 2 :]]))]
        keys = band_keys(sets, settings)
        shared = (keys[::2] == keys[1::2]).any(axis=1).mean()
        similarity = common / (common + own)
        expected = 1 - (1 - similarity**settings.rows) ** settings.bands
        assert abs(shared - expected) < 4 * np.sqrt(expected * (1 - expected) / 300) + 1e-9


def test_hashes_do_not_depend_on_the_process() -> None:
    code = "from megatron_snow.corpus.shingles import Shingler; print(Shingler(2).shingles('eins zwei drei').tolist())"
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{Shingler(2).shingles('eins zwei drei').tolist()}\n"}
