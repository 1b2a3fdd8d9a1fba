"""Parquet that is larger than it looks: memory bounded by rows, not by what a file says of itself; nothing sound is lost beside it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import parquet
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.folder import read_rows, row_groups

MB = 2**20


def write(path: Path, texts: list[str] | pyarrow.Array, **options: object) -> None:
    columns = {"content": texts, "path": [f"{i}.py" for i in range(len(texts))], "repo_name": ["o/r"] * len(texts)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


def kinds(path: Path, longest: int) -> list[str]:
    """What every row is: its text's length, or why it is none."""
    return [one.reason if isinstance(one, Broken) else str(len(one.text)) for group, _ in row_groups(path) for one in read_rows(path, group, longest)]


@contextmanager
def arrow_memory() -> Iterator[pyarrow.MemoryPool]:
    """What pyarrow allocates; ``max_memory`` is the most at any time."""
    before = pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(before)
    pyarrow.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pyarrow.set_memory_pool(before)


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_row_of_100_megabytes_costs_its_row(tmp_path: Path, dictionary: bool) -> None:
    write(tmp_path / "a.parquet", ["x = 1\n", "x" * 100 * MB, "x = 22\n"], use_dictionary=dictionary)
    tracemalloc.start()
    with arrow_memory() as pool:
        assert kinds(tmp_path / "a.parquet", 10**6) == ["6", "too large", "7"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MB  # the value is never made a Python object
    assert pool.max_memory() < 320 * MB  # the page, packed and unpacked, and the value


@pytest.mark.parametrize("known", [True, False])
def test_a_text_that_a_dictionary_repeats_is_read_few_at_a_time(tmp_path: Path, known: bool) -> None:
    """200 rows of the same 8 MB in a file of less than one; ``known``: the file says that the column is to be read as a dictionary."""
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200 + [1], pyarrow.int32()), pyarrow.array(["x" * 8 * MB, "x = 1\n"]))
    write(tmp_path / "a.parquet", texts, store_schema=known)
    assert (tmp_path / "a.parquet").stat().st_size < MB
    with arrow_memory() as pool:
        assert kinds(tmp_path / "a.parquet", 10**5) == ["too large"] * 200 + ["6"]
    assert pool.max_memory() < 200 * MB


def test_a_text_repeated_beyond_all_bounds_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by what comes out, since a dictionary's repetitions show in no size that the file states."""
    monkeypatch.setattr(parquet, "_BOMB_FROM", 64 * MB)
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2_000, pyarrow.int32()), pyarrow.array(["x" * MB]))
    write(tmp_path / "a.parquet", texts, store_schema=False)
    found = kinds(tmp_path / "a.parquet", 10**6)
    assert found[-1] == "shard is a bomb" and 250 <= len(found) < 500


def test_a_group_that_packs_almost_nothing_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BOMB_FROM", 16 * MB)
    write(tmp_path / "a.parquet", ["\0" * 8 * MB] * 3, compression="zstd", use_dictionary=False)
    assert kinds(tmp_path / "a.parquet", 10**6) == ["shard is a bomb"]


def test_a_list_that_a_dictionary_repeats_costs_its_row(tmp_path: Path) -> None:
    """Two thousand licences, each the same megabyte."""
    licence = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2_000 + [1], pyarrow.int32()), pyarrow.array(["x" * MB, "MIT"]))
    lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, 2_000, 2_001], pyarrow.int32()), licence)
    columns = {"content": ["x = 1\n"] * 2, "path": ["a.py"] * 2, "repo_name": ["o/r"] * 2, "licenses": lists}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with arrow_memory() as pool:
        assert kinds(tmp_path / "a.parquet", 10**5) == ["too large", "6"]
    assert pool.max_memory() < 100 * MB


def test_large_rows_are_read_few_at_a_time(tmp_path: Path) -> None:
    """60 rows of four megabytes, each another and on a page of its own: a batch of all would hold a quarter of a gigabyte."""
    write(tmp_path / "a.parquet", [f"{i:4}" * MB for i in range(60)], use_dictionary=False, write_batch_size=1)
    with arrow_memory() as pool:
        assert kinds(tmp_path / "a.parquet", 10**7) == [str(4 * MB)] * 60
    assert pool.max_memory() < 200 * MB


def test_the_size_of_a_dictionary_is_read_from_its_page(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["x" * size for size in (10, 300, 70_000, 3_000_000)])
    leaf = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0)
    assert parquet._dictionary_bytes(tmp_path / "a.parquet", leaf) == 10 + 300 + 70_000 + 3_000_000 + 4 * 4  # a length of four bytes before each


def test_a_damaged_group_is_said_and_the_next_is_read(tmp_path: Path) -> None:
    texts = [f"x = {i * 7919}\n" * 50 for i in range(2_000)]
    write(tmp_path / "a.parquet", texts, row_group_size=1_000, use_dictionary=False, data_page_size=2**14, compression="none")
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    for start in range(len(whole) // 8, len(whole) // 3, 997):
        whole[start : start + 97] = b"\xff" * 97
    (tmp_path / "a.parquet").write_bytes(whole)
    found = kinds(tmp_path / "a.parquet", 10**6)
    assert found[-1_000:] == [str(len(text)) for text in texts[1_000:]] and found[-1_001] == "damaged file"


def test_a_column_of_structures_is_passed_over_or_refused(tmp_path: Path) -> None:
    columns = {"content": ["x"] * 2, "path": ["a"] * 2, "repo_name": ["r"] * 2, "stars": [{"a": [{"b": 1}]}] * 2}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert kinds(tmp_path / "a.parquet", 10**6) == ["1", "1"]
    pyarrow.parquet.write_table(pyarrow.table(columns | {"content": [{"text": "x"}] * 2}), tmp_path / "b.parquet")
    assert kinds(tmp_path / "b.parquet", 10**6) == ["malformed row"] * 2


def test_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    with pytest.raises(SnowError, match=r"a\.parquet is not a readable parquet file"):
        row_groups(tmp_path / "a.parquet")
