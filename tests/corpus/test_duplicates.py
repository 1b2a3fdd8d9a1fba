"""What goes as a duplicate, against the Python twin and against brute force over all pairs; the order of the input does not matter."""

from __future__ import annotations

import random
from hashlib import blake2b

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.corpus import duplicates as module
from megatron_snow.corpus import native, reference
from megatron_snow.corpus.duplicates import exact_duplicates, find_duplicates, near_duplicates, preference_order
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import band_keys, ngrams
from megatron_snow.corpus.spool import INDEX

SETTINGS = NearDuplicateSettings()


def corpus(families: int, seed: int) -> list[bytes]:
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
    return [text.encode() for text in texts]


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def clustered(texts: list[bytes], settings: NearDuplicateSettings = SETTINGS) -> tuple[np.ndarray, np.ndarray]:
    """(bands, roots) of texts in order of preference."""
    bands = band_keys(texts, settings).T
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    return bands, near_duplicates(lambda band: bands[band], len(texts), sizes, lambda numbers: [texts[i] for i in numbers], settings, 2)


@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAIRS", 7)  # many batches
    texts = corpus(25, seed)
    sets = [set(ngrams(text, SETTINGS.words).tolist()) for text in texts]
    bands, roots = clustered(texts)
    similar = {(i, j) for j in range(len(sets)) for i in range(j) if jaccard(sets[i], sets[j]) >= SETTINGS.jaccard}
    kept = [i for i in range(len(sets)) if roots[i] == i]
    dropped = [i for i in range(len(sets)) if roots[i] != i]
    # Nothing goes without a near-duplicate, and what stays of its cluster is preferred to it.
    partners = {i for pair in similar for i in pair}
    assert set(dropped) <= partners and all(roots[i] < i and roots[roots[i]] == roots[i] for i in dropped)
    # Of the pairs brute force finds, what stays together is only what no band showed (J just over 0.7: half of the pairs).
    missed = [(i, j) for i, j in similar if roots[i] == i and roots[j] == j]
    assert not [(i, j) for i, j in missed if (bands[:, i] == bands[:, j]).any()]
    assert not [(i, j) for i, j in missed if jaccard(sets[i], sets[j]) > 0.9]
    assert len(dropped) > 40 and len(kept) > 25
    assert not any(len(texts[i].split()) < 5 for i in dropped)
    monkeypatch.undo()
    assert np.array_equal(clustered(texts)[1], roots)


@given(st.data())
def test_clusters_are_the_twins(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    bands = [data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)) for _ in range(data.draw(st.integers(1, 3)))]
    alike = {pair: data.draw(st.booleans()) for pair in ((i, j) for j in range(count) for i in range(j))}
    rounds = data.draw(st.integers(1, 4))
    clusters = native.Clusters(count)
    for keys in bands:
        clusters.band(np.array(keys, dtype=np.uint64), rounds)
        while len(pairs := clusters.pairs()):
            assert (pairs[:, 0] < pairs[:, 1]).all()
            clusters.answer(np.array([alike[tuple(pair)] for pair in pairs.tolist()]))
    assert clusters.roots().tolist() == reference.cluster_roots(bands, lambda i, j: alike[i, j], rounds)


def test_a_bucket_is_no_verdict_and_its_comparisons_are_bounded() -> None:
    clusters = native.Clusters(100)
    asked = 0
    for _ in range(2):
        clusters.band(np.zeros(100, dtype=np.uint64), 4)
        while len(pairs := clusters.pairs()):
            asked += len(pairs)
            clusters.answer(np.zeros(len(pairs), dtype=bool))
    assert clusters.roots().tolist() == list(range(100))
    assert asked == 99 + 98 + 97 + 96  # none is asked again in the second band, whose leaders are the same


def test_clusters_refuse_what_does_not_fit() -> None:
    clusters = native.Clusters(2)
    with pytest.raises(ValueError, match="one key for each document"):
        clusters.band(np.zeros(3, dtype=np.uint64), 1)
    with pytest.raises(ValueError, match="an answer for each pair"):
        clusters.answer(np.zeros(1, dtype=bool))
    with pytest.raises(ValueError, match="can be clustered at once"):
        native.Clusters(2**32)


def row(identifier: str, license_: str = "MIT", size: int = 10, **more: object) -> dict:
    names = {"language": "Python", "repository": "r", "path": "p", "source": "s"}
    known = {"stars": None, "forks": None, "updated": None, "digest": blake2b(identifier.encode(), digest_size=16).digest()}
    return {"id": identifier, "license": license_, "size": size, **names, **known, "task": 0, "offset": 0, "length": 0, **more}


def table(rows: list[dict]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist(rows, schema=INDEX)


def test_preference_is_licence_stars_forks_recency_size_and_then_fixed() -> None:
    ordered = [
        row("z", stars=100, size=1),
        row("y", stars=5, forks=3),
        row("x", stars=5, forks=2, updated="2024-01-01T00:00:00+00:00"),
        row("w", stars=5, forks=2, updated="2023-12-31T23:59:59+00:00", size=99),
        row("v", stars=5, size=9),
        row("b", size=20),
        row("a"),
        row("c"),
        row("d", "", stars=10**6, size=99),
    ]
    for seed in range(3):
        shuffled = random.Random(seed).sample(ordered, len(ordered))
        assert [shuffled[i]["id"] for i in preference_order(table(shuffled))] == [one["id"] for one in ordered]


def test_exact_duplicates_keep_the_first() -> None:
    digests = np.array([[1, 0], [2, 0], [1, 0], [1, 1], [1, 0]], dtype=np.uint64)
    assert exact_duplicates(digests).tolist() == [0, 1, 0, 3, 0]
    assert exact_duplicates(digests[:0]).tolist() == []


def test_the_order_of_the_input_does_not_matter() -> None:
    """What goes, and for which document, is the same whichever way the rows are dealt."""
    texts = corpus(12, 5)
    texts += texts[:10]
    rng = random.Random(1)
    rows = [
        row(f"id{i}", rng.choice(["MIT", ""]), len(text), stars=rng.choice([None, 1, 2]), digest=blake2b(text, digest_size=16).digest())
        for i, text in enumerate(texts)
    ]
    outcomes = []
    for seed in range(3):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        dealt = [texts[i] for i in order]
        found = find_duplicates(table([rows[i] for i in order]), band_keys(dealt, SETTINGS).T, lambda some, dealt=dealt: [dealt[i] for i in some], SETTINGS)
        ids = [rows[i]["id"] for i in order]
        assert len(found.kept) + len(found.exact) + len(found.near) == len(texts) and len(found.exact) == 10 and len(found.near) > 10
        outcomes.append(([ids[i] for i in found.kept], {(ids[a], ids[b]) for a, b in found.exact.tolist()}, {(ids[a], ids[b]) for a, b in found.near.tolist()}))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_nothing_and_one_thing() -> None:
    empty = find_duplicates(table([]), np.empty((25, 0), dtype=np.uint64), lambda rows: [], SETTINGS)
    assert len(empty.kept) == len(empty.exact) == len(empty.near) == 0
    one = find_duplicates(table([row("x")]), band_keys([b"x"], SETTINGS).T, lambda rows: [b"x"], SETTINGS)
    assert one.kept.tolist() == [0] and len(one.exact) == len(one.near) == 0


def test_bands_must_fit_the_permutations() -> None:
    with pytest.raises(ValueError, match="needs more than the 100 permutations"):
        NearDuplicateSettings(permutations=100)
