"""Folders of rows: the column names of The Stack, broken rows, broken files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.folder import Row, check_columns, folder_files, folder_fingerprint, read_rows, row_groups
from megatron_snow.corpus.settings import FolderSource

V1 = {"content": "x = 1\n", "max_stars_repo_path": "a.py", "max_stars_repo_name": "o/r", "max_stars_repo_licenses": ["MIT", "Apache-2.0"], "max_stars_count": 7}
V2 = {"content": "x = 1\n", "path": "a.py", "repo_name": "o/r", "detected_licenses": [], "star_events_count": None}
PLAIN = {"text": "x = 1\n", "path": "a.py", "repository_name": "o/r", "license": "MIT", "stars": 2.0}
EXPECTED = [Row("x = 1\n", "a.py", "o/r", "Apache-2.0 AND MIT", 7), Row("x = 1\n", "a.py", "o/r", "", None), Row("x = 1\n", "a.py", "o/r", "MIT", 2)]


def source(path: Path) -> FolderSource:
    return FolderSource(name="rows", path=path)


def all_rows(file: Path, max_bytes: int = 10**6) -> list[Row | Broken]:
    return [row for group, _ in row_groups(file) for row in read_rows(file, group, max_bytes)]


def test_column_names_and_compressions(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in (V1, V2, PLAIN)).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(lines) + zstandard.compress(lines))  # two frames, as appended files have
    (tmp_path / "notes.md").write_text("not data")
    files, _ = folder_files(source(tmp_path))
    assert [file.name for file in files] == ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst"]
    for file, times in zip(files, (1, 1, 2), strict=True):
        check_columns(source(tmp_path), file)
        assert all_rows(file) == EXPECTED * times


@pytest.mark.parametrize(("row", "expected"), zip((V1, V2, PLAIN), EXPECTED, strict=True))
def test_parquet_in_row_groups(tmp_path: Path, row: dict, expected: Row) -> None:
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row] * 5), file, row_group_size=2)
    check_columns(source(file), file)
    assert len(row_groups(file)) == 3
    assert all_rows(file) == [expected] * 5


def test_invalid_utf8_in_parquet_costs_its_row(tmp_path: Path) -> None:
    data = pyarrow.array([b"good", b"\xff\xfe", b"fine"]).view(pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])
    table = pyarrow.table({"content": text, "path": ["a.py"] * 3, "repo_name": ["o/r"] * 3})
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, file)
    rows = all_rows(file)
    assert [row.text if isinstance(row, Row) else row.reason for row in rows] == ["good", "not UTF-8", "fine"]


def test_invalid_utf8_in_a_category_or_a_list_costs_its_row(tmp_path: Path) -> None:
    data = pyarrow.array([b"good", b"\xff\xfe", b"fine"])
    bad = pyarrow.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])
    category = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1, 2], pyarrow.int32()), bad)
    lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, 2, 3], pyarrow.int32()), bad)
    rest = {"path": ["a.py"] * 3, "repo_name": ["o/r"] * 3}
    for name, table in (("a.parquet", {"content": category} | rest), ("b.parquet", {"content": ["x"] * 3, "licenses": lists} | rest)):
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / name)
        assert ["row" if isinstance(row, Row) else row.reason for row in all_rows(tmp_path / name)] == ["row", "not UTF-8", "row"]


def test_every_way_to_write_a_text_reads_the_same(tmp_path: Path) -> None:
    """The types writers use: pandas' categories, polars' large and view strings, bytes; with nulls among the licences."""
    texts, rest = ["x = 1\n", "y = 2\n"] * 3, {"path": ["a.py"] * 6, "repo_name": ["o/r"] * 6}
    licences = [["MIT"], [], None, ["MIT", "Apache-2.0"], ["MIT"], None]
    expected = ["MIT", "", "", "Apache-2.0 AND MIT", "MIT", ""]
    kinds = [pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())]
    for kind in [*kinds, pyarrow.string_view()]:
        for listed in (pyarrow.list_(pyarrow.string()), pyarrow.large_list(pyarrow.large_string())):
            columns = {"content": pyarrow.array(texts).cast(kind), "licenses": pyarrow.array(licences, listed), **rest}
            pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=4)
            found = all_rows(tmp_path / "a.parquet")
            assert [row.text for row in found] == texts and [row.license for row in found] == expected, kind


def test_broken_rows_are_yielded_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [
        json.dumps(V1).encode(),
        b"{broken",
        b"[1]",
        b'{"content": null, "path": "p", "repo_name": "r"}',
        b'{"content": "\xff"}',
        b"",
        json.dumps(V2).encode(),
    ]
    file.write_bytes(b"\n".join(rows))
    found = all_rows(file)
    assert [row.reason if isinstance(row, Broken) else "row" for row in found] == ["row", *["malformed row"] * 4, "row"]


def test_an_endless_line_is_skipped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"content": "' + b"x" * 3_000_000 + b'"}\n' + json.dumps(V1).encode() + b"\n")
    found = all_rows(file, max_bytes=1_000)
    assert [row.reason if isinstance(row, Broken) else "row" for row in found] == ["too large", "row"]


def test_a_file_cut_short_yields_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({**V1, "content": f"{i * 7919 % 10007}"}) + "\n" for i in range(5_000)).encode())
    file.write_bytes(whole[: len(whole) // 2])
    found = all_rows(file)
    assert isinstance(found[0], Row) and len(found) > 1_000
    assert isinstance(found[-1], Broken) and found[-1].reason == "damaged file"


def test_what_cannot_be_mended_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="does not exist; mend 'path'"):
        folder_files(source(tmp_path / "absent"))
    with pytest.raises(SnowError, match=r"holds no \.jsonl"):
        folder_files(source(tmp_path))
    (tmp_path / "a.jsonl").write_text(json.dumps({"content": "x", "path": "p"}) + "\n")
    with pytest.raises(SnowError, match="no column for the repository"):
        check_columns(source(tmp_path), tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("no json at all\n")
    with pytest.raises(SnowError, match="no row with columns"):
        check_columns(source(tmp_path), tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl.zst").write_bytes(b"no zstd at all")
    with pytest.raises(SnowError, match="cannot be read"):
        check_columns(source(tmp_path), tmp_path / "c.jsonl.zst")
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"], "repo_name": ["r"]}), tmp_path / "d.parquet")
    with pytest.raises(SnowError, match="no column for the text"):
        check_columns(source(tmp_path), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(SnowError, match="not a readable parquet"):
        check_columns(source(tmp_path), tmp_path / "e.parquet")


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}\n")
    before = folder_fingerprint(source(tmp_path))
    assert folder_fingerprint(source(tmp_path)) == before
    file.write_text("{} \n")
    assert folder_fingerprint(source(tmp_path)) != before
