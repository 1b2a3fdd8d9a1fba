from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.cli.commands import app
from megatron_snow.evaluation.comparison import differences, lines


def results(folder: Path, passed: list[bool], name: str = "humaneval+") -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"benchmarks": {name: {"problems": len(passed)}}}))
    rows = [{"task_id": f"T/{number}", "sample": 0, "passed": one} for number, one in enumerate(passed)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_noise_and_a_difference(tmp_path: Path) -> None:
    base = results(tmp_path / "base", [True] * 30 + [False] * 134)
    same = results(tmp_path / "same", [False] * 2 + [True] * 31 + [False] * 131)
    better = results(tmp_path / "better", [True] * 60 + [False] * 104)
    (line,) = lines(differences(base, same / "results.json"))
    assert line.endswith("no difference beyond noise") and "by the first alone 2, by the second alone 3" in line
    (line,) = lines(differences(base, better))
    assert "+18.3 points" in line and line.endswith("second is better")
    assert lines(differences(better, base))[0].endswith("first is better")


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    base = results(tmp_path / "base", [True, False])
    with pytest.raises(SnowError, match="none in common"):
        differences(base, results(tmp_path / "other", [True, False], "mbpp+"))
    with pytest.raises(SnowError, match=r"2 problems in .* 3 in"):
        differences(base, results(tmp_path / "more", [True, False, True]))
    with pytest.raises(SnowError, match="cannot read results from"):
        differences(base, tmp_path / "absent")
    (tmp_path / "old.json").write_text("{}")
    with pytest.raises(SnowError, match="has no benchmarks"):
        differences(base, tmp_path / "old.json")
    (base / "humaneval+.jsonl").unlink()
    with pytest.raises(SnowError, match="cannot read the samples"):
        differences(base, base)


def test_the_command(tmp_path: Path) -> None:
    base, better = results(tmp_path / "a", [True] * 30 + [False] * 134), results(tmp_path / "b", [True] * 60 + [False] * 104)
    done = CliRunner().invoke(app, ["compare", str(base), str(better)])
    assert done.exit_code == 0 and "second is better" in done.stdout
