import gzip

import orjson
import pytest
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.jsonl import row_names, rows
from megatron_snow.quality.settings import JsonlPositives

LINES = b"".join(orjson.dumps({"instruction": f"do {i}", "response": f"x = {i}", "repo": f"r{i % 2}"}) + b"\n" for i in range(5)) + b"\n"


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def path(request, tmp_path):
    packed = {"jsonl": LINES, "gz": gzip.compress(LINES), "zst": zstandard.compress(LINES)}[request.param.rsplit(".", 1)[1]]
    (tmp_path / request.param).write_bytes(packed)
    return str(tmp_path / request.param)


def test_wanted_rows_come_with_joined_columns(path):
    source = JsonlPositives(path=path, count=9, columns=("instruction", "response"), repository="repo")
    assert list(row_names(source, 2)) == [f"positives[2]:{i}" for i in range(1, 6)]
    found = list(rows(source, 2, frozenset({"positives[2]:1", "positives[2]:4"})))
    assert found == [("positives[2]:1", "do 0\n\nx = 0", "r0", "unknown", 1.0), ("positives[2]:4", "do 3\n\nx = 3", "r1", "unknown", 1.0)]


def test_a_row_without_repository_column_is_its_own_repository(path):
    source = JsonlPositives(path=path, count=9, columns=("response",))
    assert [repository for _, _, repository, _, _ in rows(source, 0, frozenset(row_names(source, 0)))] == [f"positives[0]:{i}" for i in range(1, 6)]


def test_a_missing_file_is_refused():
    with pytest.raises(SnowError, match=r"nowhere\.jsonl does not exist"):
        list(row_names(JsonlPositives(path="nowhere.jsonl", count=1), 0))


def test_a_missing_column_is_named_with_what_there_is(path):
    with pytest.raises(SnowError, match=r"line 1: no text in column 'text' \(it has instruction, repo, response\)"):
        list(rows(JsonlPositives(path=path, count=1), 0, frozenset({"positives[0]:1"})))


def test_rows_that_are_not_json_objects_are_refused(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"text": \n[1]\n')
    source = JsonlPositives(path=str(tmp_path / "b.jsonl"), count=1)
    with pytest.raises(SnowError, match="line 1: not JSON"):
        list(rows(source, 0, frozenset({"positives[0]:1"})))
    with pytest.raises(SnowError, match="it is not an object"):
        list(rows(source, 0, frozenset({"positives[0]:2"})))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path, suffix):
    (tmp_path / f"c.jsonl.{suffix}").write_bytes(LINES)
    with pytest.raises(SnowError, match="cannot be read"):
        list(row_names(JsonlPositives(path=str(tmp_path / f"c.jsonl.{suffix}"), count=1), 0))
