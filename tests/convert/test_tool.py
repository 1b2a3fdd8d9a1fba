"""tools/convert_checkpoint.py as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.convert import hub

ROOT = Path(__file__).parents[2]


def tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub.tokenizer(hub.make(tmp_path_factory.mktemp("hub") / "model", "qwen2"))


@pytest.fixture(scope="module")
def base(model: Path) -> tuple[Path, dict[str, object]]:
    """The model as a checkpoint, by the tool, and the counts."""
    done = tool("--hugging-face", model, "--output", model.parent / "base", "--vocabulary-multiple", "64", "--tokenizer", model)
    assert done.returncode == 0, done.stderr
    return model.parent / "base", json.loads(done.stdout)


def test_there_and_back(model: Path, base: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    folder, counts = base
    assert counts["vocabulary"] == 320 and counts["rows_added"] == 20 and counts["dtype"] == "fp32"
    arguments = ("--checkpoint", folder, "--tokenizer", folder / "hugging_face", "--output", tmp_path / "made")
    done = tool(*arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vocabulary"] == 300
    assert (tmp_path / "made" / "config.json").is_file() and not list(tmp_path.glob("*.building"))
    found, expected = (load_file(path / "model.safetensors") for path in (tmp_path / "made", model))
    assert found.keys() == expected.keys() and all(bool((found[name] == expected[name]).all()) for name in found)
    again = tool(*arguments)
    assert again.returncode == 2 and "made exists: delete it" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--checkpoint", "nowhere", "--tokenizer", "nowhere", "--output", "x"], "nowhere holds no whole checkpoint"),
        (["--checkpoint", "nowhere", "--output", "x"], "--checkpoint needs --tokenizer"),
        (["--hugging-face", "nowhere", "--output", "x"], "nowhere holds no config.json"),
        (["--hugging-face", "nowhere", "--keep-padding", "--output", "x"], "--keep-padding goes with --checkpoint"),
        (["--output", "x"], "one of the arguments --checkpoint --hugging-face is required"),
    ],
)
def test_mistakes_end_with_2_and_leave_nothing(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = tool(*arguments[:-1], tmp_path / arguments[-1])
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_shows_both_ways() -> None:
    done = tool("--help")
    assert done.returncode == 0 and "--checkpoint out/quickstart" in done.stdout and "--hugging-face Qwen" in done.stdout
