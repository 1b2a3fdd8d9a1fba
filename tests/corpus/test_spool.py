"""Texts read back one by one."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.corpus.spool import Entry, SpoolReader, SpoolWriter, read_index, write_index


def test_texts_and_index_survive_in_any_order(tmp_path: Path) -> None:
    texts = {(task, i): f"text {task} {i} é\u2028 " * (i * 50) for task in range(2) for i in range(10)}
    for task in range(2):
        entries = []
        with (tmp_path / f"{task}.spool").open("wb") as file:
            writer = SpoolWriter(file)
            for i in range(10):
                offset, length = writer.add(texts[task, i].encode())
                entries.append(Entry(f"{i}\u2028", "C", "r\u0085", "p", "", "s", i or None, i, str(i), task, offset, length))
        write_index(tmp_path / f"{task}.index", entries)
        assert read_index(tmp_path / f"{task}.index") == entries
    every = [entry for task in range(2) for entry in read_index(tmp_path / f"{task}.index")]
    with SpoolReader([tmp_path / "0.spool", tmp_path / "1.spool"]) as reader:
        for number, entry in reversed(list(enumerate(every))):
            assert reader.text(entry) == texts[divmod(number, 10)]
