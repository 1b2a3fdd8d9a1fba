"""What can be known of the Triton kernels without a GPU: their numbers in the interpreter, their machine code for Hopper."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton (extra dev)")
ROOT = Path(__file__).parents[2]


def run(module: str, cache: Path, **environment: str) -> str:
    """A process of its own: Triton chooses between interpreter and compiler when the kernels are imported."""
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=variables | {"TRITON_CACHE_DIR": str(cache)} | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_numbers_in_the_interpreter(tmp_path: Path) -> None:
    assert "all agree" in run("tests.kernels.interpreted", tmp_path, TRITON_INTERPRET="1")


def test_machine_code_for_hopper(tmp_path: Path) -> None:
    assert "all as they should be" in run("tests.kernels.compiled", tmp_path)
