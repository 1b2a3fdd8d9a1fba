"""Rows found by id, against reading every row."""

import random
from types import SimpleNamespace

import orjson
import pytest
import zstandard

from megatron_snow.artifacts.documents import read_shard, write_shard
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.dropped import NAME, read_dropped, write_dropped
from megatron_snow.lineage import search
from megatron_snow.lineage.places import Artefacts, mentioning
from megatron_snow.lineage.repository import trace_repositories
from megatron_snow.lineage.search import find_in_shards, find_rows
from megatron_snow.tokens.settings import TokenizeSettings

ODD = ['a"b', '"', "back\\slash", "line\nbreak", "é/ü.py", 'x","text":"y', "", "plain/id.py"]


def document(name, text="x = 1\n"):
    return {"id": name, "text": text, "language": "Python", "repository": "r", "path": "p", "license": "MIT", "source": "s"}


@pytest.fixture
def shard(tmp_path):
    chance = random.Random(3)
    names = [f"s/r/{number}.py" for number in range(3000)] + ODD
    chance.shuffle(names)
    write_shard(tmp_path / "00000.jsonl.zst", (document(name, chance.randbytes(chance.randint(0, 800)).hex() + ' {"id":"s/r/1.py"') for name in names))
    return tmp_path / "00000.jsonl.zst"


def by_reading(path, ids):
    return [(number, row | {"text": ""}) for number, row in enumerate(read_shard(path)) if row["id"] in ids]


@pytest.mark.parametrize("ids", [{"s/r/1.py"}, {"s/r/7.py", "s/r/2999.py", "no/such"}, set(ODD), {"no/such"}, set()])
def test_what_is_found_is_what_reading_every_row_finds(shard, ids):
    assert find_rows(shard, ids) == by_reading(shard, ids)


def test_rows_that_begin_otherwise_are_found_too(tmp_path):
    rows = b"".join(orjson.dumps({"text": "t", "id": name}) + b"\n" for name in ("a", "b"))
    (tmp_path / "x").write_bytes(zstandard.ZstdCompressor().compress(rows))
    assert find_rows(tmp_path / "x", {"b"}) == [(1, {"text": "", "id": "b"})]


def test_many_shards_by_several_processes(shard, tmp_path, monkeypatch):
    other = tmp_path / "00001.jsonl.zst"
    write_shard(other, [document("z"), document("y")])
    wanted = {other: {"y"}, shard: {"s/r/5.py"}}
    alone = list(find_in_shards(wanted))
    monkeypatch.setattr(search, "_ALONE", 0)
    monkeypatch.setattr(search.os, "sched_getaffinity", lambda _: {0, 1})
    assert list(find_in_shards(wanted)) == alone == [(other, [(1, document("y", ""))]), (shard, by_reading(shard, {"s/r/5.py"}))]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: data[:-20], r" ends in the middle, after line \d+"),
        (lambda data: data[:900] + b"\x00" * 40 + data[940:], r", line \d+: not JSON .*"),
        (lambda data: b"no zstd", ", after line 0: .*"),
    ],
)
def test_a_damaged_shard_is_said(shard, spoil, what):
    shard.write_bytes(spoil(shard.read_bytes()))
    with pytest.raises(SnowError, match=rf"00000\.jsonl\.zst{what}; the shard is damaged: delete its folder and run the arrow again"):
        find_rows(shard, {"no/such"})


def test_rows_not_worth_parsing_are_those_without_the_name(tmp_path):
    rows = [{"id": f"s/{name}/f.py", "reason": "duplicate", "language": "C", "of": ""} for name in ("a/b", "a/bc", 'q"uote', "other")]
    write_dropped(tmp_path / "d", rows)
    assert list(read_dropped(tmp_path / "d", mentioning(["a/b"]))) == rows[:2]  # the second is for the reader to refuse
    assert list(read_dropped(tmp_path / "d", mentioning(['q"uote']))) == rows[2:3]
    assert list(read_dropped(tmp_path / "d", mentioning(map(str, range(100))))) == rows


def test_a_repository_is_found_in_any_spelling(tmp_path):
    """The record of drops holds the sources' spelling; the question may be an address."""
    rows = [{"id": f"s/{name}/f.py", "reason": "taken down", "language": "C", "of": ""} for name in ("Owner/Name", "owner/name", "owner/names", "x/owner/name")]
    write_dropped(tmp_path / NAME, rows)
    artefacts = Artefacts(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path, TokenizeSettings(), SimpleNamespace(phases={}), 1)
    found = trace_repositories(artefacts, {"https://github.com/OWNER/Name.git", "no/such"})
    assert [row["id"] for row in found["dropped_files"]] == ["s/Owner/Name/f.py", "s/owner/name/f.py"]
    assert found["seen"] == ["https://github.com/OWNER/Name.git"]
