"""The tiny road, run once for every test that wants a whole one; and copies of it that a test may spoil."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parent / "tiny.yaml"
FOLDERS = ["1-corpus", "2-tokenizer", "3-annotate", "4-synthesize", "5-tokenize", "6-train", "7-convert", "8-evaluate", "9-report"]
PHASES = ("general", "continued", "enhanced")


def run_snow(*arguments, **environment):
    """A command in a process of its own, whatever it ends with."""
    return subprocess.run(
        [sys.executable, "-m", "megatron_snow", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        check=False,
    )


def snow(*arguments):
    """A command that has to succeed."""
    result = run_snow(*arguments)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return result


@pytest.fixture(scope="session")
def road(tmp_path_factory):
    """The tiny road: its folder and what the run said. Tests leave it as it is. Several workers of a test run share one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "road"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "said").exists():
            result = snow("run", RECIPE, "--out", folder / "out")
            (folder / "said").write_text(json.dumps([result.stdout, result.stderr]))
    stdout, stderr = json.loads((folder / "said").read_text())
    return folder / "out", subprocess.CompletedProcess([], 0, stdout, stderr)


@pytest.fixture
def own_road(road, tmp_path):
    """A copy of the tiny road's folders (``own_road("1-corpus", ...)``, all by default) as an output folder of the test's own."""

    def copy(*folders):
        for name in folders or FOLDERS:
            shutil.copytree(road[0] / name, tmp_path / "out" / name)
        return tmp_path / "out"

    return copy
