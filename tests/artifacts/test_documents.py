import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.artifacts.documents import read_documents, shards, write_documents
from megatron_snow.artifacts.errors import SnowError


def _document(text, number=0):
    return {"id": f"s/r/{number}", "text": text, "language": "Python", "repository": "r", "path": str(number), "license": "MIT", "source": "s"}


@given(texts=st.lists(st.text(), max_size=20), shard_bytes=st.integers(1, 2000))
def test_documents_come_back_in_order_for_any_sharding(tmp_path_factory, texts, shard_bytes):
    tier = tmp_path_factory.mktemp("tier")
    rows = [_document(text, number) for number, text in enumerate(texts)]
    assert write_documents(tier, iter(rows), shard_bytes) == len(rows)
    assert list(read_documents(tier)) == rows


def test_an_empty_tier_still_has_a_shard(tmp_path):
    write_documents(tmp_path / "tier", [])
    assert len(shards(tmp_path / "tier")) == 1
    assert list(read_documents(tmp_path / "tier")) == []


def test_missing_tier_is_a_clear_error(tmp_path):
    with pytest.raises(SnowError, match="holds no"):
        list(read_documents(tmp_path / "nothing"))


def test_damaged_row_names_its_line(tmp_path):
    good = orjson.dumps(_document("x"))
    (tmp_path / "00000.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(good + b"\n{broken\n"))
    with pytest.raises(SnowError, match="line 2"):
        list(read_documents(tmp_path))


@pytest.mark.parametrize("size", [0.5, 0.99])
def test_a_shard_cut_short_is_not_taken_for_one_that_ends_there(tmp_path, size):
    write_documents(tmp_path, [_document("x" * number, number) for number in range(100)])
    shard = shards(tmp_path)[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(size * len(whole))])
    with pytest.raises(SnowError, match="in the middle"):
        list(read_documents(tmp_path))
