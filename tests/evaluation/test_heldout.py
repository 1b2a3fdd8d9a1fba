from __future__ import annotations

from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.evaluation.heldout import sample
from tests.evaluation.conftest import document


def test_sample_is_capped_by_language_and_by_file_and_independent_of_row_order(tmp_path: Path) -> None:
    rows = [document(f"f{n}", f"{n:04d}" * 50, "Python" if n % 3 else "C") for n in range(60)]
    write_documents(tmp_path / "a", rows)
    write_documents(tmp_path / "b", rows[::-1])
    first, second = (sample(tmp_path / name, 7, 1_030, 120) for name in "ab")
    assert first == second and list(first) == ["C", "Python"]
    for texts in first.values():
        assert [len(text) for text in texts] == [120] * 8 + [70]
    assert sample(tmp_path / "a", 8, 1_030, 120) != first


def test_a_small_tier_is_taken_whole(tmp_path: Path) -> None:
    write_documents(tmp_path, [document("a", "one"), document("b", ""), document("c", "two")])
    assert sorted(sample(tmp_path, 1, 10**6, 10**6)["Python"]) == ["one", "two"]


def test_no_character_is_cut_in_two(tmp_path: Path) -> None:
    write_documents(tmp_path, [document("a", "aé" * 10), document("b", "é" * 10)])
    for limit in range(2, 20):
        texts = sample(tmp_path, 1, limit, 11)["Python"]
        assert all(text and text.strip("aé") == "" for text in texts) and limit - 2 <= sum(len(text.encode()) for text in texts) <= limit


def test_growing_cap_extends_the_sample(tmp_path: Path) -> None:
    write_documents(tmp_path, [document(f"f{n}", f"{n:03d}") for n in range(50)])
    assert sample(tmp_path, 3, 60, 10)["Python"] == sample(tmp_path, 3, 90, 10)["Python"][:20]


def test_nothing_held_out(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"holds no .*shard"):
        sample(tmp_path / "heldout", 1, 100, 100)
    write_documents(tmp_path / "heldout", [])
    with pytest.raises(SnowError, match="holds no text to measure on"):
        sample(tmp_path / "heldout", 1, 100, 100)
