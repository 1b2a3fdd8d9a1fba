from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import read_documents, shards, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.report.tiers import MOST_SHARDS, profile
from tests.report.small_road import documents


def test_a_profile_counts_what_is_there(tmp_path: Path) -> None:
    rows = documents("standard", 200)
    write_documents(tmp_path, rows)
    found = profile(tmp_path)
    assert (found.files, len(found.repositories), found.sampled) == (200, 5, False)
    assert found.bytes == sum(len(row["text"].encode()) for row in rows)
    assert found.license_files == Counter(row["license"] or "none stated" for row in rows)
    assert found.language_bytes.total() == found.bytes


def test_shown_files_do_not_depend_on_row_order(tmp_path: Path) -> None:
    rows = documents("standard", 200)
    write_documents(tmp_path / "a", rows)
    write_documents(tmp_path / "b", reversed(rows))
    assert [row["id"] for row in profile(tmp_path / "a").shown] == [row["id"] for row in profile(tmp_path / "b").shown]


def test_a_large_tier_is_sampled_from_all_over_and_says_so(tmp_path: Path) -> None:
    write_documents(tmp_path, documents("standard", 300), shard_bytes=2_000)
    found = profile(tmp_path)
    every = shards(tmp_path)
    assert len(every) > 3 * MOST_SHARDS
    assert (found.shards_read, found.shards_all, found.sampled) == (MOST_SHARDS, len(every), True)
    assert 0 < found.files < 300


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-4], lambda data: b"not zstd" + data])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: object) -> None:
    write_documents(tmp_path, documents("standard", 50))
    shard = shards(tmp_path)[0]
    shard.write_bytes(damage(shard.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SnowError, match=r"00000\.jsonl\.zst"):
        profile(tmp_path)
    with pytest.raises(SnowError):
        list(read_documents(tmp_path))
