"""Tiers opened and read in C++ against the Python reader of the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.shards import TierFiles
from megatron_snow.tokens.indexed import Header, IndexedDataset
from megatron_snow.tokens.writer import IndexedWriter

sequences = st.lists(st.integers(0, 9), min_size=0, max_size=4)  # lengths of one document's sequences


def write(prefix: Path, dtype: str, documents: list[list[int]], rng: np.random.Generator) -> None:
    kind = np.dtype(dtype)
    with IndexedWriter(prefix, kind) as out:
        for lengths in documents:
            out.add(rng.integers(0, np.iinfo(kind).max, sum(lengths), endpoint=True, dtype=kind), lengths=lengths)
        out.finish()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["<u2", "<i4", "uint8", "<i8"]), st.lists(sequences, max_size=8)), min_size=1, max_size=4), st.data())
def test_lengths_and_pieces_equal_the_python_reader(tmp_path_factory: pytest.TempPathFactory, shards: list, data: st.DataObject) -> None:
    folder, rng = tmp_path_factory.mktemp("tiers"), np.random.default_rng(0)
    (folder / "tier").mkdir()
    for number, (dtype, documents) in enumerate(shards):
        write(folder / "tier" / f"{number:05d}", dtype, documents, rng)
    twins = [IndexedDataset(folder / "tier" / f"{number:05d}") for number in range(len(shards))]
    lengths = np.concatenate([twin.lengths for twin in twins])
    if lengths.sum() == 0:
        with pytest.raises(SnowError, match="holds no tokens"):
            TierFiles(folder, "tier", IndexCache())
        return
    files = TierFiles(folder, "tier", IndexCache())
    assert np.array_equal(files.lengths, lengths) and files.tokens == lengths.sum()
    texts = [twin.doc(i) for twin in twins for i in range(len(twin))]
    full = np.flatnonzero(lengths)
    rows = []
    for _ in range(data.draw(st.integers(1, 6))):
        document = int(full[data.draw(st.integers(0, len(full) - 1))])
        first = data.draw(st.integers(0, int(lengths[document]) - 1))
        rows.append((document, first, data.draw(st.integers(1, int(lengths[document]) - first))))
    tokens, boundaries, places = files.read(np.array(rows, np.int64))
    parts = [texts[document][first : first + count].astype(np.int64) for document, first, count in rows]
    assert np.array_equal(tokens, np.concatenate(parts)) and boundaries.tolist() == np.cumsum([0, *map(len, parts)]).tolist()
    assert np.array_equal(places, files.place(np.array(rows, np.int64)))
    assert all(
        np.array_equal(twins[shard].doc(document)[r[1] : r[1] + r[2]], part) for (shard, document), r, part in zip(places.tolist(), rows, parts, strict=True)
    )


def test_what_is_read_is_checked(tmp_path: Path) -> None:
    """Pointers that lead out of .bin, or nowhere, are found when they are followed."""
    (tmp_path / "tier").mkdir()
    write(tmp_path / "tier" / "00000", "<u2", [[4], [5], [6]], np.random.default_rng(0))
    good = (tmp_path / "tier" / "00000.idx").read_bytes()
    rows = np.array([[1, 0, 5]])
    for wrong in (-2, 3, 30, 2**62):
        raw = bytearray(good)
        raw[34 + 12 + 8 : 34 + 12 + 16] = wrong.to_bytes(8, "little", signed=True)
        (tmp_path / "tier" / "00000.idx").write_bytes(raw)
        with pytest.raises(SnowError, match=f"document 1 lies at byte {wrong} of 30"):
            TierFiles(tmp_path, "tier", IndexCache()).read(rows)
    (tmp_path / "tier" / "00000.idx").write_bytes(good)
    files = TierFiles(tmp_path, "tier", IndexCache())
    for outside in ([1, 0, 12], [1, -6, 2], [2, 6, 1], [0, 2**62, 1]):
        with pytest.raises(SnowError, match="and further"):
            files.read(np.array([outside]))
    with pytest.raises(IndexError):
        files.read(np.array([[3, 0, 1]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:20], "cut short"),
        (lambda raw: b"X" + raw[1:], "is no Megatron index"),
        (lambda raw: raw[:-8], "cut short or written over"),
        (lambda raw: raw[:17] + b"\x09" + raw[18:], "type code 9"),
        (lambda raw: raw[:18] + (2**61).to_bytes(8, "little") + raw[26:], "asks for"),
        (lambda raw: raw[:-16] + (9).to_bytes(8, "little") + raw[-8:], "document 1 ends before it begins"),
        (lambda raw: raw[:-8] + (2).to_bytes(8, "little"), "documents do not span all sequences"),
    ],
)
def test_damaged_shards_are_named(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (tmp_path / "tier").mkdir()
    for number in range(3):
        write(tmp_path / "tier" / f"{number:05d}", "<u2", [[4], [5], [6]], np.random.default_rng(0))
    for number in (1, 2):
        path = tmp_path / "tier" / f"{number:05d}.idx"
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SnowError, match=message) as error:
        TierFiles(tmp_path, "tier", IndexCache())
    assert "00001.idx" in str(error.value)  # the first of the two, whichever thread came first


def test_missing_bin_and_tokens_that_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "tier").mkdir()
    write(tmp_path / "tier" / "00000", "<i4", [[4]], np.random.default_rng(0))
    index = tmp_path / "tier" / "00000.idx"
    index.write_bytes(index.read_bytes()[:17] + b"\x07" + index.read_bytes()[18:])  # 4 bytes as well, but float32
    with pytest.raises(SnowError, match="type code 7 is not of whole numbers"):
        TierFiles(tmp_path, "tier", IndexCache()).read(np.array([[0, 0, 1]]))
    (tmp_path / "tier" / "00000.bin").unlink()
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(SnowError, match="belong together"):
            TierFiles(tmp_path, "tier", IndexCache(cache))


def test_more_documents_and_tokens_than_32_bits(tmp_path: Path) -> None:
    """Five shards of 2^31 - 1 tokens each, in files of holes: places and pieces beyond int32."""
    (tmp_path / "tier").mkdir()
    length = 2**31 - 1
    arrays = (np.array([length], "<i4"), np.array([0], "<i8"), np.array([0, 1], "<i8"))
    for number in range(5):
        (tmp_path / "tier" / f"{number:05d}.idx").write_bytes(Header(np.dtype("<u2"), 1, 1).pack() + b"".join(array.tobytes() for array in arrays))
        with (tmp_path / "tier" / f"{number:05d}.bin").open("wb") as file:
            file.truncate(2 * length)
            file.seek(2 * (length - 1))
            file.write((number + 1).to_bytes(2, "little"))
    files = TierFiles(tmp_path, "tier", IndexCache())
    assert files.tokens == 5 * length > 2**33
    tokens, _, _ = files.read(np.array([[4, length - 2, 2], [2, length - 1, 1]]))
    assert tokens.tolist() == [0, 5, 3]
