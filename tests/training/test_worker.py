from __future__ import annotations

import subprocess
import sys

import pytest

from megatron_snow.training.worker import RankNumbers, numbers_from_environment

TASK = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ({}, None),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, RankNumbers(5, 8, 1)),
        (TASK | {"SLURM_STEP_ID": "0"}, RankNumbers(3, 4, 1)),
        (TASK, None),  # the batch script
        (TASK | {"SLURM_STEP_ID": "batch"}, None),
        (TASK | {"SLURM_STEP_ID": ""}, None),
        (TASK | {"SLURM_STEP_ID": str(0xFFFFFFFB)}, None),  # the batch script by its reserved number
        (TASK | {"SLURM_STEP_ID": str(0xFFFFFFFA)}, None),  # salloc's interactive shell
        (TASK | {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}, None),
    ],
)
def test_a_rank_is_what_torchrun_or_a_slurm_step_started(environment: dict[str, str], numbers: RankNumbers | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", *TASK):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert numbers_from_environment() == numbers


def test_asking_for_the_numbers_imports_no_torch() -> None:
    code = "import sys, megatron_snow.training.worker; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
