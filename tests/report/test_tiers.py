from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megatron_snow.artifacts.documents import Document, read_documents, shards, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.report.tiers import MOST_SHARDS, PARSED_CHARACTERS, QUANTILES, _Smallest, profile
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
    assert len(every) > MOST_SHARDS
    assert (found.shards_read, found.shards_all, found.sampled) == (MOST_SHARDS, len(every), True)
    assert 0 < found.files < 300


def test_a_large_shard_is_read_in_part_and_says_so(tmp_path: Path) -> None:
    rows = documents("standard", 400)
    write_documents(tmp_path, rows)
    size = sum(len(row["text"].encode()) for row in rows)
    found = profile(tmp_path, most_bytes=size // 4)
    assert found.sampled and found.shards_read == found.shards_all
    assert size // 4 <= found.bytes <= size // 3
    assert not profile(tmp_path, most_bytes=size).sampled


def test_lengths_comments_and_repetition(tmp_path: Path) -> None:
    texts = ["# comment\nx = 1\n" * (index + 1) for index in range(100)]
    texts[7] = texts[5].replace("\n", " \n")  # a copy but for white space
    write_documents(tmp_path, [Document(**{**row, "text": text, "language": "Python"}) for row, text in zip(documents("standard", 100), texts, strict=True)])
    found = profile(tmp_path)
    assert found.line_quantiles() == pytest.approx(np.quantile([text.count("\n") for text in texts], QUANTILES))
    assert found.comment_share == pytest.approx(9 / 16, abs=0.001)  # "# comment" of 16 characters
    assert found.file_sketch.copies() == pytest.approx(1 / 100)
    curve = found.cumulative_lines()
    assert curve == sorted(curve) and len(curve) <= 61 and curve[-1] == (200.0, 1.0)
    assert all(share == pytest.approx(np.mean([text.count("\n") <= lines for text in texts]), abs=0.011) for lines, share in curve)


def test_the_sample_is_bounded_uniform_and_independent_of_order() -> None:
    rows = [Document(**{**row, "text": row["text"] + "x" * PARSED_CHARACTERS}) for row in documents("standard", 1_000)]
    forwards, backwards = _Smallest(100), _Smallest(100)
    for row in rows:
        forwards.offer(row)
    for row in reversed(rows):
        backwards.offer(row)
    kept = forwards.ordered()
    assert kept == backwards.ordered() and len(kept) == 100
    assert all(len(row["text"]) == PARSED_CHARACTERS for row in kept)
    places = sorted(int(row["path"].split("<")[0]) for row in kept)
    assert 400 < np.mean(places) < 600  # 500 +- 29 for a uniform draw of 100 of 1,000


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-4], lambda data: b"not zstd" + data])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: object) -> None:
    write_documents(tmp_path, documents("standard", 50))
    shard = shards(tmp_path)[0]
    shard.write_bytes(damage(shard.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SnowError, match=r"00000\.jsonl\.zst"):
        profile(tmp_path)
    with pytest.raises(SnowError):
        list(read_documents(tmp_path))
