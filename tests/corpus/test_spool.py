"""Texts read back one by one, and the index of all tasks in columns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from megatron_snow.corpus import spool as module
from megatron_snow.corpus.spool import INDEX, SpoolReader, SpoolWriter, gather, read_table, spool_file, write_bands, write_index


def fill(folder: Path, tasks: int, each: int) -> tuple[list[dict], dict[tuple[int, int], bytes]]:
    """Spool, index and bands of some tasks; returns the rows of all and the texts."""
    every, texts = [], {}
    for task in range(tasks):
        rows = []
        with spool_file(folder, task).open("wb") as file:
            writer = SpoolWriter(file)
            for i in range(each):
                texts[task, i] = f"text {task} {i} é\u2028 ".encode() * (i * 50)
                offset, length = writer.add(texts[task, i])
                names = {"id": f"{task}/{i}\u2028", "language": "C", "repository": "r\u0085", "path": "p", "license": "", "source": "s"}
                known = {"stars": i or None, "forks": None, "updated": None, "size": i, "digest": bytes([task, i] * 8)}
                rows.append({**names, **known, "task": task, "offset": offset, "length": length})
        write_index(folder / f"{task:05d}.index.arrow", rows)
        write_bands(folder / f"{task:05d}.bands.npy", np.arange(each * 3, dtype=np.uint64).reshape(each, 3) + 1000 * task)
        every += rows
    return every, texts


def test_texts_index_and_bands_survive_in_any_order(tmp_path: Path) -> None:
    rows, texts = fill(tmp_path, 3, 10)
    table, bands = gather(tmp_path, 3, 3)
    assert table.schema == INDEX and table.to_pylist() == rows
    assert bands.shape == (3, 30) and bands[:, 12].tolist() == [1006, 1007, 1008]
    with SpoolReader(tmp_path) as reader:
        for number, row in reversed(list(enumerate(rows))):
            assert reader.text(row["task"], row["offset"], row["length"]) == texts[divmod(number, 10)]


def test_more_spool_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN", 4)
    rows, texts = fill(tmp_path, 20, 3)
    before = len(os.listdir("/proc/self/fd"))
    with SpoolReader(tmp_path) as reader:
        for _ in range(2):
            for number, row in enumerate(rows):
                assert reader.text(row["task"], row["offset"], row["length"]) == texts[divmod(number, 3)]
        assert len(os.listdir("/proc/self/fd")) <= before + 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_gathering_keeps_no_file_open_and_no_documents_are_no_trouble(tmp_path: Path) -> None:
    fill(tmp_path, 50, 1)
    before = len(os.listdir("/proc/self/fd"))
    table, bands = gather(tmp_path, 50, 3)
    assert len(table) == bands.shape[1] == 50 and len(os.listdir("/proc/self/fd")) <= before + 2
    write_index(tmp_path / "00000.index.arrow", [])
    write_bands(tmp_path / "00000.bands.npy", np.empty((0, 3), dtype=np.uint64))
    table, bands = gather(tmp_path, 1, 3)
    assert len(table) == 0 and bands.shape == (3, 0)
    assert read_table(tmp_path / "index.arrow").schema == INDEX
