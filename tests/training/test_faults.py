"""Kills at random moments cost time and nothing else: every later loss and every byte of the last checkpoint are those of the run without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import faults


@pytest.mark.parametrize(("kills", "steps"), [(5, 24), pytest.param(100, 300, marks=[pytest.mark.soak])], ids=["5 kills", "100 kills"])
def test_a_run_killed_again_and_again_is_the_uninterrupted_run_to_the_bit(kills: int, steps: int, tokens: Path, tmp_path: Path) -> None:
    faults.uninterrupted_run(tokens, tmp_path / "uninterrupted", steps)
    hits = faults.killed_run(tokens, tmp_path / "killed", steps, kills, seed=kills)
    print(f"{hits} of {kills} kills hit a save")
    assert faults.differences(tmp_path / "killed", tmp_path / "uninterrupted") == []
    assert hits >= kills // 5, "too few kills hit a save to say anything about those"
