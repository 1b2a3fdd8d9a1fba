"""What can be known of the Triton kernels without a GPU: their numbers in the interpreter, their machine code for Hopper."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton (extra dev)")
OLD = importlib.util.find_spec("triton") is not None and tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) < (3, 7)
ROOT = Path(__file__).parents[2]


def run(module: str, cache: Path, **environment: str) -> str:
    """A process of its own: Triton chooses between interpreter and compiler when the kernels are imported."""
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=variables | {"TRITON_CACHE_DIR": str(cache)} | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(OLD, reason="the interpreter of triton before 3.7 takes arrays of one number for numbers, which numpy 2.4 refuses")
def test_numbers_in_the_interpreter(tmp_path: Path) -> None:
    assert "all agree" in run("tests.kernels.interpreted", tmp_path, TRITON_INTERPRET="1")


@pytest.mark.skipif(OLD, reason="what is known of the machine code is of triton 3.7's; 3.6 spills registers at 49,152 columns, and make gpu times it")
def test_machine_code_for_hopper(tmp_path: Path) -> None:
    assert "all as they should be" in run("tests.kernels.compiled", tmp_path)
