"""The journal: nothing lost, nothing twice, a torn end forgiven."""

import subprocess
import sys

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


def test_a_failure_is_no_answer_and_gives_way_to_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(Answer(id="r0", content="status 500", finish_reason="failed"))
        journal.add(Answer(id="r0", content="status 503", finish_reason="failed"))
        assert journal.failed("r0") and "r0" not in journal and len(journal) == 0
    with Journal(path) as journal:
        assert journal.failed("r0")
        journal.add(answers(1)[0])
        assert not journal.failed("r0") and "r0" in journal
    with Journal(path) as journal:
        assert not journal.failed("r0") and list(journal.read(iter(["r0"]))) == answers(1)


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path), pytest.raises(SnowError, match="in use by another process"):
        Journal(path)
    with Journal(path):
        pass


def test_a_full_disk_ends_the_run_and_spoils_no_line(tmp_path):
    path, program = (
        tmp_path / "journal.jsonl",
        (
            "import resource, signal, sys\nfrom pathlib import Path\nfrom megatron_snow.artifacts.errors import SnowError\n"
            "from megatron_snow.synthesis.journal import Answer, Journal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n    with Journal(Path(sys.argv[1])) as journal:\n"
            "        for i in range(20):\n            journal.add(Answer(id=str(i), content='x' * 70, finish_reason='stop'))\n"
            "except SnowError as error:\n    print(error)\n"
        ),
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert "make room on the disk and run again" in done.stdout, done.stderr
    with Journal(path) as journal:
        assert 5 < len(journal) < 10 and path.read_bytes().count(b"\n") == len(journal)
