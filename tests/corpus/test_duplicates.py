"""What goes as a duplicate, against brute force over all pairs."""

from __future__ import annotations

import random

import pytest

from megatron_snow.corpus.duplicates import exact_duplicates, near_duplicates, preference
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import band_keys, ngrams
from megatron_snow.corpus.spool import Entry

SETTINGS = NearDuplicateSettings()


def entry(identifier: str, license_: str = "MIT", stars: int | None = None, size: int = 10, digest: str = "") -> Entry:
    return Entry(identifier, "Python", "r", "p", license_, "s", stars, size, digest or identifier, 0, 0, 0)


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def corpus(families: int, seed: int) -> list[str]:
    """Families of texts from near copies to distant relatives, unrelated texts, and short ones."""
    rng = random.Random(seed)
    texts = []
    for _ in range(families):
        words = [f"w{rng.randrange(5_000)}" for _ in range(200)]
        texts.append(" ".join(words))
        for edits in (1, 2, 5, 10, 30):
            copy = list(words)
            for _ in range(edits):
                copy[rng.randrange(len(copy))] = f"new{rng.randrange(10**6)}"
            texts.append(" ".join(copy))
    texts += [f"a b{i}" for i in range(20)]
    rng.shuffle(texts)
    return texts


@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(seed: int) -> None:
    texts = corpus(25, seed)
    sets = [set(ngrams(text.encode(), SETTINGS.words).tolist()) for text in texts]
    bands = band_keys([text.encode() for text in texts], SETTINGS)
    dropped = near_duplicates(bands, lambda i, j: jaccard(sets[i], sets[j]), SETTINGS)
    similar = {(i, j) for j in range(len(sets)) for i in range(j) if jaccard(sets[i], sets[j]) >= SETTINGS.jaccard}
    kept = [i for i in range(len(sets)) if i not in dropped]
    # Nothing goes without a near-duplicate, and what stays of its cluster is preferred to it.
    partners = {i for pair in similar for i in pair}
    assert set(dropped) <= partners and all(keeper < i and keeper not in dropped for i, keeper in dropped.items())
    # Of the pairs brute force finds, what stays together is only what no band showed (J just over 0.7: half of the pairs).
    missed = [(i, j) for i, j in similar if i in kept and j in kept]
    assert not [(i, j) for i, j in missed if (bands[i] == bands[j]).any()]
    assert not [(i, j) for i, j in missed if jaccard(sets[i], sets[j]) > 0.9]
    assert len(dropped) > 40
    assert not any(len(texts[i].split()) < 5 for i in dropped)


def test_chains_do_not_drop_what_no_kept_document_resembles_by_hash_alone() -> None:
    """Two documents of one bucket that are not alike both stay: buckets are candidates, not verdicts."""
    bands = near_duplicates(band_keys([b"same words every time here"] * 3, SETTINGS), lambda i, j: 0.0, SETTINGS)
    assert bands == {}


def test_comparisons_in_one_bucket_are_bounded() -> None:
    calls = []

    def similarity(i: int, j: int) -> float:
        calls.append((i, j))
        return 0.0

    settings = NearDuplicateSettings(max_comparisons=4, bands=1, rows=10)
    near_duplicates(band_keys([b"same words every time here"] * 100, settings), similarity, settings)
    assert len(calls) == len(set(calls)) <= 4 * 100


def test_empty_and_single() -> None:
    assert near_duplicates(band_keys([], SETTINGS), lambda i, j: 1.0, SETTINGS) == {}
    assert near_duplicates(band_keys([b"x"], SETTINGS), lambda i, j: 1.0, SETTINGS) == {}


def test_preference() -> None:
    ordered = [
        entry("z", "MIT", stars=100, size=1),
        entry("y", "MIT", stars=5, size=9),
        entry("b", "MIT", size=20),
        entry("a", "MIT", size=10),
        entry("c", "MIT", size=10),
        entry("d", "", stars=10**6, size=99),
    ]
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=preference) == ordered


def test_exact_duplicates_keep_the_first() -> None:
    entries = [entry("a", digest="1"), entry("b", digest="2"), entry("c", digest="1"), entry("d", digest="1")]
    assert exact_duplicates(entries) == {2: 0, 3: 0}


def test_bands_must_fit_the_permutations() -> None:
    with pytest.raises(ValueError, match="needs more than the 100 permutations"):
        NearDuplicateSettings(permutations=100)
