"""From documents to samples: the same as asking every sample where it comes from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megatron_snow.blend import native, reference
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.megatron import MegatronSamples
from megatron_snow.blend.mixture import Mixture
from megatron_snow.blend.settings import MegatronOrder, MixtureSettings
from megatron_snow.tokens.indexed import IndexedDataset
from tests.blend.test_dataset import write_tier


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("tokens"), np.random.default_rng(0)
    write_tier(folder / "standard", [rng.integers(1, 120, 40).tolist(), [900, 1, 0, 33], rng.integers(1, 30, 20).tolist()])
    write_tier(folder / "high_quality", [[50, 0, 60, 70]], start=500)
    write_tier(folder / "tiny", [[3, 2, 5]], start=900)  # shorter than a sample
    return folder


def asked_one_by_one(data: PhaseDataset | MegatronSamples, tokens: Path, tier: str, documents: set[int]) -> dict[int, int]:
    """Sample -> tokens of the documents in it (its label's left out), by looking at every sample."""
    names = sorted(path.stem for path in (tokens / tier).glob("*.idx"))
    firsts = dict(zip(names, np.cumsum([0, *(len(IndexedDataset(tokens / tier / name).lengths) for name in names)]).tolist(), strict=False))
    found: Counter[int] = Counter()
    for sample in range(len(data)):
        origin = data.origin(sample)
        for place, span in enumerate(origin):
            if span.tier == tier and firsts[span.shard] + span.document in documents:
                found[sample] += span.tokens - (place == len(origin) - 1)
    return dict(found)


def check(data: PhaseDataset | MegatronSamples, tokens: Path, tier: str, documents: list[int]) -> int:
    samples, counted = data.occurrences(tier, np.array(documents, np.int64))
    assert samples.dtype == counted.dtype == np.int64 and (np.diff(samples) > 0).all()
    assert dict(zip(samples.tolist(), counted.tolist(), strict=True)) == asked_one_by_one(data, tokens, tier, set(documents))
    return len(samples)


DOCUMENTS = {"standard": [[0], [40], [41, 42], [3, 17, 50, 63], list(range(64))], "high_quality": [[1], [0, 3]], "tiny": [[0], [1, 2]]}


@pytest.mark.parametrize("samples", [1, 7, 200])
@pytest.mark.parametrize("sequence", [1, 32, 100])
def test_samples_of_documents(tokens: Path, sequence: int, samples: int) -> None:
    data = PhaseDataset(tokens, {"standard": 0.6, "high_quality": 0.3, "tiny": 0.1}, sequence, samples, seed=samples)
    found = [check(data, tokens, tier, documents) for tier, some in DOCUMENTS.items() for documents in some]
    assert found[4] == data.counts()["standard"]  # all documents: every sample of the tier


def test_a_tier_that_leaves_and_a_cache(tokens: Path, tmp_path: Path) -> None:
    mixture = MixtureSettings(exhausted="leave")
    data = PhaseDataset(tokens, {"standard": 0.6, "high_quality": 0.4}, 16, 150, 3, {"high_quality": 2}, cache=tmp_path, mixture=mixture)
    assert data.leaves()
    for tier in ("standard", "high_quality"):
        for documents in DOCUMENTS[tier]:
            check(data, tokens, tier, documents)


def test_megatrons_own_order(tokens: Path) -> None:
    for samples, split in ((200, "1, 0, 0"), (9, "969, 30, 1"), (60, "1, 1, 0")):
        data = MegatronSamples(tokens, {"standard": 0.7, "high_quality": 0.3}, 24, samples, MegatronOrder(split=split))
        for tier in ("standard", "high_quality"):
            for documents in DOCUMENTS[tier]:
                check(data, tokens, tier, documents)
    single = MegatronSamples(tokens, {"tiny": 1}, 4, 30, MegatronOrder(split="1, 0, 0"))
    for documents in DOCUMENTS["tiny"]:
        check(single, tokens, "tiny", documents)


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 5000])
def test_unpermute_undoes_permute(size: int) -> None:
    places = np.array([native.permute(index, size, 42) for index in range(size)])
    assert np.array_equal(native.unpermute(places, size, 42), np.arange(size))
    with pytest.raises(IndexError):
        native.unpermute(np.array([size]), size, 42)


def test_starts_are_where_the_order_has_them() -> None:
    lengths = np.random.default_rng(3).integers(0, 50, 700).astype(np.int32)
    order, twin = native.DocumentOrder(lengths, 9), reference.document_order(700, 9)
    ends = np.cumsum(lengths[twin].astype(np.int64))
    expected = dict(zip(twin.tolist(), (ends - lengths[twin]).tolist(), strict=True))
    assert order.starts(np.arange(700)).tolist() == [expected[document] for document in range(700)]
    for wrong in (-1, 700):
        with pytest.raises(IndexError):
            order.starts(np.array([wrong]))


def test_a_run_of_a_mixture_is_its_samples() -> None:
    mixture = Mixture([0.5, 0.3, 0.2], [None, 20, 5], seed=1, samples=300)
    for first, count in ((0, 300), (15, 60), (299, 1), (7, 0)):
        datasets, indices = mixture.take(first, count)
        assert list(zip(datasets.tolist(), indices.tolist(), strict=True)) == [mixture[sample] for sample in range(first, first + count)]
    with pytest.raises(IndexError):
        mixture.take(299, 2)
