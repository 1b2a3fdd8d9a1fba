"""The published files, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from megatron_snow.benchmarks.sources import FOLDER_VARIABLE


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with HumanEvalPlus, MbppPlus, BigCodeBench and EvoEval files."""
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder:
        pytest.skip(f"set {FOLDER_VARIABLE} to a folder with the published benchmark files (HumanEvalPlus*.jsonl.gz, MbppPlus*, EvoEval_*, BigCodeBench*)")
    return Path(folder)
