"""Steps on datatrove's executor: quarantine, completion, and reading what is no text."""

from __future__ import annotations

from pathlib import Path

import orjson
from datatrove.data import Document

from megatron_snow.corpus.engine import run_steps
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.corpus.spool import read_table
from megatron_snow.corpus.steps import JudgeStep, ReadStep, SpoolStep


class Fragile(JudgeStep):
    """Fails on documents nobody foresaw."""

    name = "fragile"

    def judge(self, document: Document) -> str | None:
        if "bomb" in document.text:
            raise RecursionError("too deep")
        return "dull" if "dull" in document.text else None


def write_task(folder: Path, task: int, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    items = []
    for name, content in files.items():
        location = folder / f"{task}-{name}"
        location.write_bytes(content)
        items.append({"kind": "file", "source": "s", "repository": "r", "path": name, "location": str(location), "license": "", "hint": "Python"})
    items.append({"kind": "file", "source": "s", "repository": "r", "path": "gone.py", "location": str(folder / "gone"), "license": "", "hint": "Python"})
    (folder / f"{task:05d}.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))


FILES = {
    "good.py": b"\xef\xbb\xbfgood = 1\n",
    "dull.py": b"dull",
    "bomb.py": b"bomb",
    "latin.py": b"caf\xe9",
    "nul.py": b"a\0b",
    "blank.py": b" \n",
    "large.py": b"x" * 101,
}


def run(tmp_path: Path, tasks: int, workers: int) -> list[dict]:
    spool = tmp_path / "spool"
    spool.mkdir(exist_ok=True)
    settings, funnel = CorpusSettings(max_file_bytes=100), Funnel()
    run_steps(
        [ReadStep(tmp_path / "in", settings, funnel), Fragile(settings, funnel), SpoolStep(spool, settings, funnel)], tasks, workers, tmp_path / "logs", "test"
    )
    return [orjson.loads((spool / f"{task:05d}.funnel.json").read_bytes()) for task in range(tasks)]


def test_one_bad_document_costs_one_document(tmp_path: Path) -> None:
    write_task(tmp_path / "in", 0, FILES)
    funnel = run(tmp_path, 1, 1)[0]
    assert funnel["in"] == 8
    assert {reason: languages["Python"] for reason, languages in funnel["drops"].items()} == {
        "dull": 1, "failed in fragile": 1, "not UTF-8": 1, "holds NUL bytes": 1, "empty": 1, "too large": 1, "unreadable": 1,
    }  # fmt: skip
    assert funnel["examples"]["failed in fragile"][0][2] == "RecursionError: too deep"
    entries = read_table(tmp_path / "spool/00000.index.arrow").to_pylist()
    assert [(entry["id"], entry["size"]) for entry in entries] == [("s/r/good.py", 9)]  # without the byte-order mark


def test_completed_tasks_are_not_done_again(tmp_path: Path) -> None:
    for task in range(3):
        write_task(tmp_path / "in", task, FILES)
    first = run(tmp_path, 3, 1)
    assert [funnel["in"] for funnel in first] == [8, 8, 8]  # a funnel of its own for each task
    (tmp_path / "logs/completions/00001").unlink()
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "spool").glob("*.spool"))]
    assert run(tmp_path, 3, 1) == first
    again = [path.stat().st_mtime_ns for path in sorted((tmp_path / "spool").glob("*.spool"))]
    assert [new != old for new, old in zip(again, times, strict=True)] == [False, True, False]
