"""Damaged files by the thousand: found, refused or read; never a crash, never memory without bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("count", "seed"), [(1500, 1), pytest.param(10_000, 2, marks=pytest.mark.soak)])
def test_mutated_files(tmp_path: Path, count: int, seed: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("mutations.py")), str(tmp_path), str(count), str(seed)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == count
    assert {".idx malformed", ".idx well-formed", ".bin malformed", ".bin well-formed", ".jsonl refused", ".jsonl.gz refused", ".jsonl.zst refused"} <= set(
        counts
    )
