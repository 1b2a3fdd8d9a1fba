"""The journal: nothing lost, nothing twice, a torn end forgiven."""

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis.journal import Answer, Journal


def answers(count: int) -> list[Answer]:
    return [Answer(id=f"r{i}", content=f"text\n{i} ✓", finish_reason="stop", completion_tokens=i) for i in range(count)]


def test_what_was_added_is_read_after_opening_again_in_any_order(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for one in answers(5):
            journal.add(one)
        assert list(journal.read(iter(["r3", "r0"]))) == [answers(5)[3], answers(5)[0]]
    with Journal(path) as journal:
        assert len(journal) == 5 and "r4" in journal and "r5" not in journal
        journal.add(Answer(id="r5", content="", finish_reason="length"))
        assert [one.id for one in journal.read(iter(["r5", "unknown", "r1"]))] == ["r5", "r1"]
    assert len(path.read_bytes().splitlines()) == 6


def test_an_answer_is_on_disk_before_the_journal_is_closed(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(answers(1)[0])
        assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("lost", [1, 10, 40])
def test_a_line_cut_short_is_dropped_and_asked_again(tmp_path, lost):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for one in answers(3):
            journal.add(one)
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal(path) as journal:
        assert len(journal) == 2 and "r2" not in journal
        journal.add(answers(3)[2])
    with Journal(path) as journal:
        assert [one.content for one in journal.read(iter(["r0", "r1", "r2"]))] == [one.content for one in answers(3)]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"id": "a", "content": "", "finish_reason": "stop"}\nnonsense\n')
    with pytest.raises(SnowError, match=r"journal.jsonl, line 2"):
        Journal(path)


def test_the_same_request_twice_is_a_bug(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.add(answers(1)[0])
        with pytest.raises(ValueError, match="r0"):
            journal.add(answers(1)[0])
