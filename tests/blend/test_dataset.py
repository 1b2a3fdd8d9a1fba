"""PhaseDataset on real indexed datasets, each document of which holds its own number: a token says where it comes from."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from megatron.core.datasets import helpers_cpp
from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronIndexedDataset

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.sample import Sample
from megatron_snow.tokens.indexed import Header
from megatron_snow.tokens.writer import IndexedWriter

BLEND = {"standard": 0.7, "high_quality": 0.3}


def write_tier(folder: Path, shards: list[list[int]], start: int = 0) -> None:
    """Shards of documents of the given lengths; token = 1000 x document number (through all shards, from ``start``) + place modulo 1000."""
    folder.mkdir(parents=True)
    for number, lengths in enumerate(shards):
        with IndexedWriter(folder / f"{number:05d}", np.dtype("<i4")) as out:
            for length in lengths:
                out.add(start * 1000 + np.arange(length) % 1000)
                start += 1
            out.finish()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_tier(tmp_path / "standard", [rng.integers(1, 120, 40).tolist(), [900, 1, 0, 33], rng.integers(1, 30, 20).tolist()])
    write_tier(tmp_path / "high_quality", [[50, 60, 70]], start=500)
    write_tier(tmp_path / "tiny", [[3, 2]], start=900)
    write_tier(tmp_path / "empty", [[], []])
    return tmp_path


def test_samples_are_what_origin_says(tokens: Path) -> None:
    data = PhaseDataset(tokens, BLEND, 32, 200, seed=1)
    assert len(data) == 200
    readers = {(tier, path.stem): MegatronIndexedDataset(str(path.with_suffix(""))) for tier in BLEND for path in (tokens / tier).glob("*.idx")}
    for i in range(len(data)):
        sample, origin, whole = data[i], data.origin(i), data.sample(i)
        assert sample.dtype == np.int64 and sample.shape == (33,)
        pieces = []
        for tier, shard, document, first, count, epoch in origin:
            pieces.append(readers[tier, shard][document][first : first + count])
            assert count > 0 and len(pieces[-1]) == count and epoch >= 0
        assert np.array_equal(np.concatenate(pieces), sample)
        assert data.boundaries(i).tolist() == [0, *np.cumsum([len(piece) for piece in pieces])] == whole.boundaries.tolist()
        assert np.array_equal(whole.tokens, sample) and whole.spans == origin
        seen = whole.cumulative_lengths
        assert seen.dtype == np.int32 and seen[-1] == 32 and set(seen.tolist()) == {b for b in whole.boundaries.tolist() if b < 32} | {32}


def backwards(sample: Sample) -> Sample:
    """Each piece from its end to its beginning, the pass's number added."""
    pieces = [sample.tokens[a:b][::-1] + span.epoch for a, b, span in zip(sample.boundaries, sample.boundaries[1:], sample.spans, strict=False)]
    return sample.with_tokens(np.concatenate(pieces), sample.boundaries)


def test_a_transform_sees_every_sample_as_it_is_read(tokens: Path) -> None:
    plain, changed = PhaseDataset(tokens, BLEND, 32, 200, seed=1), PhaseDataset(tokens, BLEND, 32, 200, seed=1, transform=backwards)
    again = pickle.loads(pickle.dumps(changed))  # noqa: S301 - our own bytes: what a loader's worker receives
    assert max(span.epoch for i in range(200) for span in plain.origin(i)) >= 2
    for i in range(200):
        expected = backwards(plain.sample(i))
        assert np.array_equal(changed[i], expected.tokens) and np.array_equal(again[i], expected.tokens) and changed.origin(i) == plain.origin(i)
    with pytest.raises(ValueError, match="do not stand for"):
        plain.sample(0).with_tokens(plain[0][:-1], plain.boundaries(0))


def test_a_pass_reads_every_token_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).integers(1, 40, 96)
    lengths[-1] += -lengths.sum() % 16  # so that a pass is a whole number of samples
    write_tier(tmp_path / "standard", [lengths[:50].tolist(), lengths[50:].tolist()])
    per_pass = int(lengths.sum()) // 16
    data = PhaseDataset(tmp_path, {"standard": 1}, 16, 3 * per_pass, seed=5)
    once = Counter(np.concatenate([document * 1000 + np.arange(length) for document, length in enumerate(lengths)]).tolist())
    passes = [np.concatenate([data[i][:-1] for i in range(e * per_pass, (e + 1) * per_pass)]) for e in range(3)]
    for read in passes:
        assert Counter(read.tolist()) == once
    assert not np.array_equal(passes[0], passes[1]) and not np.array_equal(passes[1], passes[2])
    assert data.epochs("standard") == 3


def test_documents_stay_whole_and_labels_follow(tmp_path: Path) -> None:
    """Undo the deal: sorted by place in the stream, samples overlap by one token and documents run on inside them."""
    write_tier(tmp_path / "standard", [[100] * 10])
    data = PhaseDataset(tmp_path, {"standard": 1}, 10, 100, seed=0)
    followers = {int(data[i][0]): data[i] for i in range(100)}
    assert len(followers) == 100
    for sample in followers.values():
        inside = np.flatnonzero(sample[:-1] % 1000 != 99)
        assert np.array_equal(sample[inside + 1], sample[inside] + 1)
    assert all(int(sample[-1]) in followers for sample in followers.values())  # each hands its last token over to another as its first


def test_blend_keeps_its_proportions_at_every_prefix(tokens: Path) -> None:
    data = PhaseDataset(tokens, BLEND, 8, 400, seed=3)
    taken = np.cumsum([data.origin(i)[0].tier == "standard" for i in range(400)])
    assert np.abs(taken - 0.7 * np.arange(1, 401)).max() <= 0.5 + 1e-9
    assert data.counts() == {"standard": 280, "high_quality": 120}


def test_pure_function_of_its_arguments(tokens: Path) -> None:
    data = PhaseDataset(tokens, BLEND, 32, 100, seed=1)
    rows = [data[i] for i in range(100)]
    longer = PhaseDataset(tokens, BLEND, 32, 1000, seed=1)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes: what a loader's worker receives
    for i in np.random.default_rng(0).permutation(100):
        assert np.array_equal(again[int(i)], rows[i]) and np.array_equal(longer[int(i)], rows[i])
    other = PhaseDataset(tokens, BLEND, 32, 100, seed=2)
    assert sum(np.array_equal(other[i], rows[i]) for i in range(100)) < 10


def test_long_and_tiny(tokens: Path) -> None:
    """A document of several sequences; a tier shorter than one sequence, which then holds several passes."""
    data = PhaseDataset(tokens, {"tiny": 1}, 12, 4, seed=0)
    assert data.epochs("tiny") == pytest.approx(4 * 12 / 5)
    assert all(set((data[i] // 1000).tolist()) == {900, 901} for i in range(4))
    assert PhaseDataset(tokens, {"standard": 1}, 800, 5, seed=0)[4].shape == (801,)


def test_repeats_are_counted_and_capped(tokens: Path) -> None:
    assert PhaseDataset(tokens, {"high_quality": 1}, 18, 40, seed=0, max_epochs={"high_quality": 4}).epochs("high_quality") == 4
    with pytest.raises(SnowError, match=r"'high_quality' has 180 tokens, the phase asks for 738: 4.10 passes.*allows 4"):
        PhaseDataset(tokens, {"high_quality": 1}, 18, 41, seed=0, max_epochs={"high_quality": 4})
    with pytest.raises(SnowError, match="max_epochs names the tier 'standart'"):
        PhaseDataset(tokens, BLEND, 18, 4, seed=0, max_epochs={"standart": 4})


def test_extreme_weights_repeat_instead_of_running_off_the_end(tmp_path: Path) -> None:
    """Megatron-LM issue 705: two equal datasets, weights 0.001 and 0.999, as many samples as both hold together."""
    for tier in ("rare", "common"):
        write_tier(tmp_path / tier, [[41] * 100])  # 4,100 tokens: 100 samples of 41
    dataset_of, index_of = np.zeros(200, np.int16), np.zeros(200, np.int64)
    helpers_cpp.build_blending_indices(dataset_of, index_of, np.array([0.001, 0.999]), 2, 200, False)
    assert index_of.max() >= 100  # megatron-core's index asks for samples that no dataset has
    blend = {"rare": 0.001, "common": 0.999}
    data = PhaseDataset(tmp_path, blend, 41, 200, seed=0)
    assert all(data[i].shape == (42,) for i in range(200))
    assert data.counts() == {"rare": 0, "common": 200} and data.epochs("common") == 2
    with pytest.raises(SnowError, match=r"'common' has 4100 tokens.*2.00 passes"):
        PhaseDataset(tmp_path, blend, 41, 200, seed=0, max_epochs={"common": 1})


@pytest.mark.parametrize(
    ("blend", "sequence", "samples", "message"),
    [
        ({"synthetic": 1}, 8, 1, r"no tier 'synthetic' in .* \(there is: empty, high_quality, standard, tiny\)"),
        ({"empty": 1}, 8, 1, r"tier 'empty' in .* holds no tokens \(2 shards, all empty\)"),
        ({}, 8, 1, "names no tier"),
        ({"standard": 0, "tiny": 1}, 8, 1, "the blend has standard: 0: weights are positive"),
        ({"standard": 1}, 0, 1, "at least one sample"),
        ({"standard": 1}, 8, 0, "at least one sample"),
    ],
)
def test_bad_input(tokens: Path, blend: dict, sequence: int, samples: int, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        PhaseDataset(tokens, blend, sequence, samples, seed=0)


@pytest.mark.parametrize(("length", "message"), [(49, "add up to 179 tokens, the files hold 180"), (-50, "negative length")])
def test_damaged_lengths(tokens: Path, length: int, message: str) -> None:
    index = tokens / "high_quality" / "00000.idx"
    raw = bytearray(index.read_bytes())
    raw[34:38] = length.to_bytes(4, "little", signed=True)
    index.write_bytes(raw)
    with pytest.raises(SnowError, match=message):
        PhaseDataset(tokens, {"high_quality": 1}, 8, 1, seed=0)[0]


def test_documents_of_several_sequences(tmp_path: Path) -> None:
    """As Megatron's --split-sentences writes them: a document is the run of its sequences."""
    (tmp_path / "split").mkdir()
    with IndexedWriter(tmp_path / "split" / "00000", np.dtype("<u2")) as out:
        out.add(np.arange(30), lengths=[10, 15, 5])
        out.add(np.arange(100, 120), lengths=[20])
        out.finish()
    data = PhaseDataset(tmp_path, {"split": 1}, 50, 3, seed=0)
    for i in range(3):
        whole = [range(30), range(100, 120)] if data.origin(i)[0].document == 0 else [range(100, 120), range(30)]
        assert data[i][:50].tolist() == [*whole[0], *whole[1]]


def test_documents_too_long_are_refused(tmp_path: Path) -> None:
    """2^31 tokens in one document, in a file of holes."""
    (tmp_path / "long").mkdir()
    lengths = np.array([2**30, 2**30, 1], "<i4")
    ends = np.cumsum(lengths, dtype="<i8")
    arrays = (lengths, 2 * (ends - lengths), np.array([0, 2, 3], "<i8"))
    (tmp_path / "long" / "00000.idx").write_bytes(Header(np.dtype("<u2"), 3, 2).pack() + b"".join(array.tobytes() for array in arrays))
    with (tmp_path / "long" / "00000.bin").open("wb") as tokens:
        tokens.truncate(2 * int(ends[-1]))
    with pytest.raises(SnowError, match="a document of 2147483648 tokens"):
        PhaseDataset(tmp_path, {"long": 1}, 8, 1, seed=0)


def test_missing_folder_and_outside_index(tokens: Path) -> None:
    with pytest.raises(SnowError, match="no such folder"):
        PhaseDataset(tokens / "nowhere", BLEND, 8, 1, seed=0)
    data = PhaseDataset(tokens, BLEND, 8, 10, seed=0)
    for i in (-1, 10):
        with pytest.raises(IndexError, match="of 10"):
            data[i]
