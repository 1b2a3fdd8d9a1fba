"""Rows from every kind of file, from any offset on, and what is wrong with a bad one."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.inputs import expand, read_rows

ROWS: list[dict[str, Any]] = [{"text": f"line {i}\r\n\u2028é" * (i % 5), "n": i, "parts": [f"{i}", "", "b"]} for i in range(700)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = b"".join(json.dumps(row, ensure_ascii=bool(i % 2)).encode() + b"\n" for i, row in enumerate(rows))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines[: len(lines) // 2]) + gzip.compress(lines[len(lines) // 2 :]))
    elif path.suffix == ".zst":
        path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(half) for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :])))
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=300)
    else:
        path.write_bytes(lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_every_row_from_every_offset(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    rows = list(read_rows(path, ["parts", "text"]))
    assert [row.values for row in rows] == [[row["parts"], [row["text"]]] for row in ROWS]
    for i in (0, 1, 299, 300, 301, 698, 699):
        assert [row.values for row in read_rows(path, ["parts", "text"], rows[i].after)] == [row.values for row in rows[i + 1 :]]


def test_last_line_without_an_end_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\r\n{"text": "b"}')
    assert [row.values for row in read_rows(tmp_path / "a.jsonl", ["text"])] == [[["a"]], [["b"]]]


def test_what_python_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "score": NaN}\n')
    assert next(read_rows(tmp_path / "a.jsonl", ["text"])).values == [["a"]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"text": "a"', "line 2: not JSON"),
        (b"", "line 2: not JSON .* no empty line"),
        (b"[1]", "line 2: a JSON object is needed, this is list"),
        (b'{"body": "a"}', "line 2: no key 'text'; it has 'body'"),
        (b'{"text": 7}', "line 2: 'text' is int"),
        (b'{"text": null}', "line 2: 'text' is NoneType"),
        (b'{"text": ["a", 7]}', "line 2: 'text' is list"),
        (b'{"text": "\\ud800"}', "line 2: it holds half a surrogate pair"),
        (b'{"text": "\xff"}', "line 2: not JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n' + line + b'\n{"text": "fine"}\n')
    with pytest.raises(SnowError, match=complaint):
        list(read_rows(tmp_path / "a.jsonl", ["text"]))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    whole = path.read_bytes()
    for size in (5, len(whole) // 3, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(SnowError, match=name):
            list(read_rows(path, ["text"]))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="no column 'body'; it has 'text', 'n', 'parts'"):
        list(read_rows(write(tmp_path / "a.parquet", ROWS), ["body"]))
    with pytest.raises(SnowError, match="row 1: 'n' is int"):
        list(read_rows(tmp_path / "a.parquet", ["n"]))


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    path = write(folder / data.draw(st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])), ROWS[:5])
    raw = path.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    path.write_bytes(raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + data.draw(st.integers(0, 4)) :])
    with contextlib.suppress(SnowError):
        for row in read_rows(path, ["text"]):
            assert all(isinstance(text, str) for texts in row.values for text in texts)


def test_globs(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "odd[1].jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jsonl").mkdir()
    assert [p.name for p in expand([f"{tmp_path}/*.jsonl", f"{tmp_path}/c.txt", f"{tmp_path}/a.jsonl"])] == ["a.jsonl", "b.jsonl", "odd[1].jsonl", "c.txt"]
    assert [p.name for p in expand([f"{tmp_path}/odd[1].jsonl"])] == ["odd[1].jsonl"]
    for pattern in ("nothing*.jsonl", "nothing.jsonl", "folder.jsonl"):
        with pytest.raises(SnowError, match="no such file"):
            expand([f"{tmp_path}/{pattern}"])
