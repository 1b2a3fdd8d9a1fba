"""megatron-core's own dataset classes beside ours: the same order, the same batches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.datasets import helpers, helpers_cpp
from megatron.core.datasets.blended_dataset import BlendedDataset
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native, reference
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.gpt import GPTSamples
from megatron_snow.blend.megatron import MegatronSamples
from megatron_snow.blend.settings import MegatronOrder, MixtureSettings
from megatron_snow.tokens.writer import IndexedWriter

END = 0
SPLIT = "969, 31, 0"  # megatron-core 0.16.1 loops for ever over a part without documents


class Tokenizer:
    """As much of a tokenizer as megatron-core asks for."""

    eod, pad, vocab_size = END, 60_000, 60_001
    special_tokens_dict: dict[str, int] = {}  # noqa: RUF012
    unique_identifiers: dict[str, str] = {}  # noqa: RUF012


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that end in END, of 1 to 79 tokens; the first is empty."""
    folder, rng = tmp_path_factory.mktemp("tokens"), np.random.default_rng(0)
    for tier, shards in {"standard": (120, 40), "high_quality": (30,)}.items():
        (folder / tier).mkdir()
        for shard, documents in enumerate(shards):
            with IndexedWriter(folder / tier / f"{shard:05d}", np.dtype("<u2")) as out:
                for length in [0, *rng.integers(1, 80, documents).tolist()]:
                    out.add(np.append(rng.integers(1, 60_000, max(length - 1, 0)), [END] if length else []).astype("<u2"))
                out.finish()
    return folder


def peer(tokens: Path, blend: dict[str, float], sequence: int, samples: int, **config: Any) -> Any:
    """The training split as Megatron-LM builds it; each shard a dataset, a tier's weight spread by tokens."""
    prefixes = [(weight, path.with_suffix("")) for tier, weight in blend.items() for path in sorted((tokens / tier).glob("*.idx"))]
    size = {prefix: prefix.with_suffix(".bin").stat().st_size for _, prefix in prefixes}
    whole = {tier: sum(size[prefix] for _, prefix in prefixes if prefix.parent.name == tier) for tier in blend}
    weights = [weight * size[prefix] / whole[prefix.parent.name] for weight, prefix in prefixes]
    defaults = {
        "random_seed": 1234, "sequence_length": sequence, "blend": ([str(prefix) for _, prefix in prefixes], weights if len(prefixes) > 1 else None),
        "split": SPLIT, "path_to_cache": None, "tokenizer": Tokenizer(), "reset_position_ids": False, "reset_attention_mask": False,
        "eod_mask_loss": False, "create_attention_mask": False, "mid_level_dataset_surplus": 0.5,
    }  # fmt: skip
    config = GPTDatasetConfig(**(defaults | config))
    return BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]


ORDER = MegatronOrder(surplus=0.5, split=SPLIT)
BLEND = {"standard": 0.7, "high_quality": 0.3}


@pytest.mark.parametrize("samples", [3, 40, 147, 190, 400])  # less than an epoch; several, the last shuffled with the others or apart
@pytest.mark.parametrize("blend", [BLEND, {"high_quality": 1.0}], ids=["blend", "single"])
def test_the_same_order_as_megatron_core(tokens: Path, blend: dict[str, float], samples: int, tmp_path: Path) -> None:
    theirs = peer(tokens, blend, 32, samples)
    for cache in (None, tmp_path / "ours", tmp_path / "ours"):
        ours = MegatronSamples(tokens, blend, 32, samples, ORDER, cache=cache)
        datasets = theirs.datasets if isinstance(theirs, BlendedDataset) else [theirs]
        for one, other in zip(ours._orders, datasets, strict=True):
            for mine, his in ((one.document_index, other.document_index), (one.sample_index, other.sample_index), (one.shuffle_index, other.shuffle_index)):
                assert mine.dtype == his.dtype and np.array_equal(mine, his)
        if isinstance(theirs, BlendedDataset):
            assert np.array_equal(ours.dataset_index, theirs.dataset_index) and np.array_equal(ours.dataset_sample_index, theirs.dataset_sample_index)
        for i in range(samples):
            expected = theirs[i]
            assert np.array_equal(ours[i], np.append(expected["tokens"], expected["labels"][-1:]))
    again = pickle.loads(pickle.dumps(ours))  # noqa: S301 - our own bytes: what a loader's worker receives
    assert np.array_equal(again[samples - 1], ours[samples - 1]) and len(again) == samples


@pytest.mark.parametrize("flags", [{}, {"reset_position_ids": True, "eod_mask_loss": True}], ids=["plain", "reset"])
def test_the_same_batches_as_megatron_core(tokens: Path, flags: dict[str, bool]) -> None:
    theirs = peer(tokens, BLEND, 32, 60, **flags)
    data = MegatronSamples(tokens, BLEND, 32, 60, ORDER)
    ours, packed = GPTSamples(data, END, **flags), GPTSamples(data, document_lengths=True)
    for i in range(60):
        expected, item = theirs[i], ours[i]
        expected.pop("dataset_id")
        assert item.keys() == expected.keys()
        for name, tensor in expected.items():
            assert item[name].dtype == tensor.dtype and item[name].is_contiguous() and torch.equal(item[name], tensor)
        lengths = packed[i]["cu_seqlens"]
        begins = [0, *(np.flatnonzero(item["tokens"].numpy()[:-1] == END) + 1).tolist(), 32]
        assert lengths.dtype == torch.int32 and lengths.tolist() == begins and packed[i]["max_seqlen"] == np.diff(begins).max()


def test_batches_of_our_own_order(tokens: Path) -> None:
    data = PhaseDataset(tokens, BLEND, 32, 60, seed=1)
    loader = torch.utils.data.DataLoader(GPTSamples(data, END, reset_position_ids=True), batch_size=4, num_workers=1, multiprocessing_context="fork")
    for number, batch in enumerate(loader):
        rows = np.stack([data[i] for i in range(4 * number, 4 * number + 4)])
        assert np.array_equal(batch["tokens"], rows[:, :-1]) and np.array_equal(batch["labels"], rows[:, 1:]) and batch["loss_mask"].all()
        restarts = np.zeros((4, 32), bool)
        for row in range(4):
            restarts[row, data.boundaries(4 * number + row)[:-1][data.boundaries(4 * number + row)[:-1] < 32]] = True
        assert np.array_equal(batch["position_ids"].numpy() == 0, restarts)
    with pytest.raises(ValueError, match="needs end_of_document"):
        GPTSamples(data, eod_mask_loss=True)


def test_pieces_of_megatrons_order_are_named(tokens: Path) -> None:
    data = MegatronSamples(tokens, BLEND, 32, 150, ORDER)
    assert sum(data.counts().values()) == 150 and data.counts()["high_quality"] == pytest.approx(45, abs=2)
    for i in range(150):
        sample = data.sample(i)
        assert sample.spans == data.origin(i) and sum(span.tokens for span in sample.spans) == 33
        assert np.diff(sample.boundaries).tolist() == [span.tokens for span in sample.spans]
    assert max(span.epoch for i in range(150) for span in data.origin(i) if span.tier == "high_quality") == int(data.epochs("high_quality"))


def test_more_samples_than_a_dataset_has(tokens: Path) -> None:
    """Megatron-LM issue 705: without a surplus its blend may ask for a sample that no dataset has; an error in time, not in the night."""
    theirs = np.array([0.001, 0.999])
    chosen, index = native.megatron_blend(theirs, 200)
    assert index.max() >= 100 and len(set(chosen.tolist())) == 2
    refused = read = 0
    for samples in range(1, 60):  # what is not refused can be read to its end
        try:
            data = MegatronSamples(tokens, {"standard": 0.999, "high_quality": 0.001}, 32, samples, MegatronOrder(surplus=0, split=SPLIT))
        except SnowError as error:
            refused += "raise megatron.surplus" in str(error)
        else:
            read += all(data[i].shape == (33,) for i in range(samples))
    assert refused + read == 59
    for samples in (50, 100):
        with pytest.raises(SnowError, match=r"tier 'high_quality' would be read .* times, max_epochs allows 0.1"):
            MegatronSamples(tokens, BLEND, 32, samples, ORDER, max_epochs={"high_quality": 0.1})


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**31))
def test_sample_index_equals_its_twin_and_megatron_core(lengths: list[int], sequence: int, epochs: int, seed: int) -> None:
    sizes = np.array(lengths, np.int32)
    order = np.random.RandomState(seed).permutation(np.tile(np.arange(len(sizes), dtype=np.int32), epochs))
    samples = (epochs * int(sizes.sum()) - 1) // sequence
    if samples < 1:
        return
    ours = native.megatron_samples_32(sizes, order, sequence, samples)
    assert np.array_equal(ours, reference.megatron_samples(sizes, order, sequence, samples))
    assert np.array_equal(ours, native.megatron_samples_64(sizes, order, sequence, samples))
    theirs = helpers.build_sample_idx(sizes, order, sequence, epochs, int(sizes.sum()), True, True)
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


@settings(max_examples=60)
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=20), st.integers(1, 300))
def test_blend_equals_its_twin_and_megatron_core(weights: list[float], samples: int) -> None:
    shares = np.array(weights) / np.sum(weights)
    dataset_of, index_of = native.megatron_blend(shares, samples)
    twin = reference.megatron_blend(shares, samples)
    assert np.array_equal(dataset_of, twin[0]) and np.array_equal(index_of, twin[1])
    theirs = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
    helpers_cpp.build_blending_indices(*theirs, shares, len(shares), samples, False)
    assert np.array_equal(dataset_of, theirs[0]) and np.array_equal(index_of, theirs[1])


def test_wrong_arguments(tokens: Path, tmp_path: Path) -> None:
    lengths, order = np.array([5, 5], np.int32), np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match="too few for 3 samples"):
        native.megatron_samples_32(lengths, order, 4, 3)
    with pytest.raises(IndexError):
        native.megatron_samples_32(lengths, np.array([2], np.int32), 4, 1)
    with pytest.raises(ValueError, match="negative length"):
        native.megatron_samples_64(-lengths, order, 4, 1)
    data = MegatronSamples(tokens, BLEND, 32, 10, ORDER)
    for i in (-1, 10):
        with pytest.raises(IndexError, match="of 10"):
            data[i]
    (tmp_path / "split").mkdir()
    with IndexedWriter(tmp_path / "split" / "00000", np.dtype("<u2")) as out:
        out.add(np.arange(30), lengths=[10, 20])
        out.finish()
    with pytest.raises(SnowError, match="documents of several sequences"):
        MegatronSamples(tmp_path, {"split": 1}, 8, 1, ORDER)
    for wrong in ({"split": "0, 1"}, {"split": "most"}, {"seed": -1}, {"surplus": -1}):
        with pytest.raises(ValidationError):
            MegatronOrder.model_validate(wrong)
    with pytest.raises(ValidationError, match="knows no shares of languages"):
        MixtureSettings.model_validate({"megatron": {}, "exhausted": "leave"})
