"""Our indexed datasets against megatron-core's: the same bytes, each reads the other's, damage is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.indexed import HEADER, IndexedDataset, bin_path, idx_path, token_dtype
from megatron_snow.tokens.writer import IndexedWriter, verify_checksums, write_checksums

DOCUMENTS = st.lists(st.lists(st.lists(st.integers(0, 65_499), min_size=1, max_size=20), max_size=3), max_size=20)


def write(prefix: Path, documents: list[list[list[int]]], dtype: str = "<u2") -> IndexedDataset:
    with IndexedWriter(prefix, np.dtype(dtype)) as out:
        for document in documents:
            out.add(np.array([t for sequence in document for t in sequence], np.int64), [len(sequence) for sequence in document])
        return out.finish()


def write_with_megatron(prefix: Path, documents: list[list[list[int]]], dtype: type) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for document in documents:
        builder.add_document([t for sequence in document for t in sequence], [len(sequence) for sequence in document])
    builder.finalize(f"{prefix}.idx")


@settings(max_examples=30)
@given(documents=DOCUMENTS, wide=st.booleans())
def test_same_bytes_as_megatron_and_each_reads_the_other(tmp_path_factory: pytest.TempPathFactory, documents: list[list[list[int]]], wide: bool) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronDataset

    folder = tmp_path_factory.mktemp("indexed")
    dtype = np.int32 if wide else np.uint16
    write(folder / "ours", documents, "<i4" if wide else "<u2")
    write_with_megatron(folder / "theirs", documents, dtype)
    assert bin_path(folder / "ours").read_bytes() == bin_path(folder / "theirs").read_bytes()
    assert idx_path(folder / "ours").read_bytes() == idx_path(folder / "theirs").read_bytes()
    for name in ("ours", "theirs"):
        data = IndexedDataset(folder / name)
        data.verify(vocabulary=65_500)
        flat = [[t for sequence in document for t in sequence] for document in documents]
        assert [data.doc(i).tolist() for i in range(len(data))] == flat
        assert data.lengths.tolist() == [len(document) for document in flat]
        assert data.tokens == sum(map(len, flat))
    if any(documents):  # megatron-core cannot map an empty .bin
        theirs = MegatronDataset(str(folder / "ours"))
        sequences = [sequence for document in documents for sequence in document]
        assert [theirs[i].tolist() for i in range(len(theirs))] == sequences
        assert theirs.document_indices.tolist() == IndexedDataset(folder / "ours").document_indices.tolist()


def test_token_type_follows_megatron() -> None:
    from megatron.core.datasets.indexed_dataset import DType

    for vocabulary in (256, 64_000, 65_499, 65_500, 65_536, 200_000):
        assert token_dtype(vocabulary) == np.dtype(DType.optimal_dtype(vocabulary))


def test_documents_are_views_and_the_dataset_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    data = write(tmp_path / "with.dots", [[[1, 2, 3]], [], [[4], [5, 6]]])
    view = data.doc(2)
    assert view.base is not None and not view.flags.writeable
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes
    assert copy.doc(2).tolist() == view.tolist() == [4, 5, 6]
    assert data.sequence(1).tolist() == [4] and len(pickle.dumps(data)) < 300
    with pytest.raises(IndexError):
        data.doc(3)
    with pytest.raises(IndexError):
        data.doc(-1)


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", np.dtype("<u2")) as out:
        with pytest.raises(ValueError, match="70000 do not fit"):
            out.add(np.array([70_000]))
        with pytest.raises(ValueError, match="do not fit"):
            out.add(np.array([-1]))
        with pytest.raises(ValueError, match="add up to 3, there are 1"):
            out.add(np.array([1]), [3])


@settings(max_examples=15)
@given(documents=DOCUMENTS, cut=st.integers(0, 20), extra=st.integers(0, 5))
def test_resume_from_a_commit_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, documents: list[list[list[int]]], cut: int, extra: int) -> None:
    folder = tmp_path_factory.mktemp("resume")
    write(folder / "straight", documents)
    cut = min(cut, len(documents))

    def add(out: IndexedWriter, some: list[list[list[int]]]) -> None:
        for document in some:
            out.add(np.array([t for s in document for t in s], np.int64), [len(s) for s in document])

    with IndexedWriter(folder / "resumed", np.dtype("<u2")) as out:
        add(out, documents[:cut])
        state = out.commit()
        add(out, documents[cut : cut + extra])  # written but not committed: must vanish
    with IndexedWriter(folder / "resumed", np.dtype("<u2"), resume=state) as out:
        add(out, documents[cut:])
        out.finish()
    for path in (bin_path, idx_path):
        assert path(folder / "resumed").read_bytes() == path(folder / "straight").read_bytes()
    assert not list(folder.glob("*.part"))


def test_resume_after_a_kill_between_the_two_moves(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", np.dtype("<u2")) as out:
        out.add(np.array([1, 2]))
        state = out.commit()
        bin_path(tmp_path / "x").write_bytes((tmp_path / "x.bin.part").read_bytes())
        (tmp_path / "x.bin.part").unlink()
    with IndexedWriter(tmp_path / "x", np.dtype("<u2"), resume=state) as out:
        assert out.finish().doc(0).tolist() == [1, 2]
    with pytest.raises(SnowError, match="gone or shorter"):
        IndexedWriter(tmp_path / "y", np.dtype("<u2"), resume=state)


def test_append_concatenates(tmp_path: Path) -> None:
    parts = [[[[1, 2], [3]], []], [], [[[4]], [[5, 6, 7]]]]
    data = [write(tmp_path / f"part{i}", part) for i, part in enumerate(parts)]
    write(tmp_path / "whole", [document for part in parts for document in part])
    with IndexedWriter(tmp_path / "merged", np.dtype("<u2")) as out:
        for one in data:
            out.append(one)
        out.finish()
    for path in (bin_path, idx_path):
        assert path(tmp_path / "merged").read_bytes() == path(tmp_path / "whole").read_bytes()
    with IndexedWriter(tmp_path / "other", np.dtype("<i4")) as out, pytest.raises(SnowError, match="different vocabularies"):
        out.append(data[0])


def damage(path: Path, at: int, value: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("file", "at", "value", "complaint"),
    [
        ("idx", 0, b"XX", "is no Megatron index"),
        ("idx", 9, b"\x02", "version 2"),
        ("idx", 17, b"\x63", "token type code 99"),
        ("idx", 18, b"\xff" * 8, "its header"),
        ("idx", 26, bytes(8), "no document boundaries"),
        ("idx", HEADER.size, (7).to_bytes(4, "little"), "does not start where the one before it ends"),
        ("idx", HEADER.size, (-7).to_bytes(4, "little", signed=True), "negative length"),
        ("idx", HEADER.size + 12, (3).to_bytes(8, "little"), "does not start where"),
        ("idx", HEADER.size + 36, (1).to_bytes(8, "little"), "span sequences 1 to 3"),
        ("idx", HEADER.size + 44, (9).to_bytes(8, "little"), "ends before it begins"),
        ("bin", 2, b"\xff\xff", "token 1 is 65535"),
    ],
)
def test_damage_is_named(tmp_path: Path, file: str, at: int, value: bytes, complaint: str) -> None:
    write(tmp_path / "x", [[[1, 2]], [[3]], [[4, 5]]])
    IndexedDataset(tmp_path / "x").verify(100)
    damage(tmp_path / f"x.{file}", at, value)
    with pytest.raises(SnowError, match=complaint):
        IndexedDataset(tmp_path / "x").verify(100)


def test_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="cannot open the index"):
        IndexedDataset(tmp_path / "nothing")
    write(tmp_path / "x", [[[1, 2]], [[3]]])
    whole = {suffix: (tmp_path / f"x.{suffix}").read_bytes() for suffix in ("bin", "idx")}
    for suffix, raw in whole.items():
        for size in range(len(raw)):
            (tmp_path / f"x.{suffix}").write_bytes(raw[:size])
            with pytest.raises(SnowError):
                IndexedDataset(tmp_path / "x")
        (tmp_path / f"x.{suffix}").write_bytes(raw)
    (tmp_path / "x.bin").unlink()
    with pytest.raises(SnowError, match="belong together"):
        IndexedDataset(tmp_path / "x")


@settings(max_examples=300)
@given(data=st.data())
def test_mutations_never_crash_and_the_checksum_finds_every_one(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    write(folder / "x", [[[1, 2]], [], [[3], [4, 5]]])
    write_checksums(folder / "x")
    assert verify_checksums(folder / "x")
    path = folder / f"x.{data.draw(st.sampled_from(['bin', 'idx']))}"
    raw = path.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + data.draw(st.binary(max_size=9)) + raw[at + data.draw(st.integers(0, 9)) :]
    path.write_bytes(changed)
    try:
        mutated = IndexedDataset(folder / "x")
        for i in range(len(mutated)):
            mutated.doc(i)
        mutated.verify(6)
    except SnowError:
        pass
    if changed != raw:
        with pytest.raises(SnowError, match="does not match its checksum"):
            verify_checksums(folder / "x")
