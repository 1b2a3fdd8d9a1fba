from __future__ import annotations

from pathlib import Path

from megatron_snow.training.records import METRICS, VALIDATION, Records, read_rows


def test_a_phase_from_its_start_has_no_rows(tmp_path):
    with Records(tmp_path, 0, True) as records:
        records.add(VALIDATION, {"step": 0, "tier": "heldout"})
    with Records(tmp_path, 0, True) as records:  # killed before its first checkpoint: it validates again
        records.add(VALIDATION, {"step": 0, "tier": "heldout"})
    assert read_rows(tmp_path / VALIDATION) == [{"step": 0, "tier": "heldout"}]


def test_rows_after_the_checkpoint_are_cut_and_a_torn_line_with_them(tmp_path: Path) -> None:
    with Records(tmp_path, 0, leader=True) as records:
        for step in range(1, 6):
            records.add(METRICS, {"step": step, "loss": 1 / step})
        records.add(VALIDATION, {"step": 4, "tier": "heldout"})
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'{"step":6,"lo')  # killed while writing
    assert [row["step"] for row in read_rows(tmp_path / METRICS)] == [1, 2, 3, 4, 5]
    with Records(tmp_path, 3, leader=True) as records:
        records.add(METRICS, {"step": 4, "loss": 0.0})
        records.sync()
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / METRICS)] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.0)]
    assert read_rows(tmp_path / VALIDATION) == []


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with Records(tmp_path, 0, leader=False) as records:
        records.add(METRICS, {"step": 1})
        records.sync()
    assert list(tmp_path.iterdir()) == []
    assert read_rows(tmp_path / METRICS) == []
