"""The loader against the real file, and what it says about broken ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.humaneval import Problem, load_humaneval

ROW = {
    "task_id": "T/0",
    "prompt": 'def f():\n    """Say\\tone."""\n',
    "entry_point": "f",
    "canonical_solution": "    return 1\n",
    "test": "def check(c):\n    assert c() == 1\n",
}


def test_fixture_holds_the_published_problems() -> None:
    problems = load_humaneval()
    assert len(problems) == 164  # arXiv 2107.03374, section 2.2
    assert [p.task_id for p in problems] == [f"HumanEval/{i}" for i in range(164)]
    for problem in problems:
        assert f"def {problem.entry_point}(" in problem.prompt
        docstrings = problem.docstrings()
        assert docstrings and any(text in problem.prompt for text in docstrings), problem.task_id


def test_docstring_of_the_entry_point_not_of_a_helper() -> None:
    prompt = 'def helper():\n    """not this"""\n\ndef g():\n    """this"""\n'
    assert Problem("T/1", prompt, "g", "    return 2\n", "").docstrings() == ("this",)


def test_docstring_as_written_and_as_evaluated() -> None:
    assert Problem(**ROW).docstrings() == ("Say\\tone.", "Say\tone.")


def test_reads_plain_and_compressed_files_and_folders(tmp_path: Path) -> None:
    line = json.dumps(ROW) + "\n\n"
    (tmp_path / "plain.jsonl").write_text(line)
    with gzip.open(tmp_path / "HumanEval.jsonl.gz", "wt") as file:
        file.write(line)
    expected = [Problem(**ROW)]
    assert load_humaneval(str(tmp_path / "plain.jsonl")) == expected
    assert load_humaneval(str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problem"),
        (b"{not json", "line 1: not JSON"),
        (json.dumps({k: v for k, v in ROW.items() if k != "test"}).encode(), "no text in test"),
        (b"[1]", "not an object"),
        (b"\xff\xfe", "cannot read the benchmark file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(SnowError, match=message):
        load_humaneval(str(path))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"absent\.jsonl"):
        load_humaneval(str(tmp_path / "absent.jsonl"))


def test_solution_that_is_no_python_is_named() -> None:
    with pytest.raises(SnowError, match="T/0: prompt and canonical solution"):
        Problem(**{**ROW, "canonical_solution": "    return (\n"}).docstrings()
