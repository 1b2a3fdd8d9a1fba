"""What the rules measured, as columns: ``signals.parquet``, a row for every file that reached the rules, kept or dropped by them.

With it "what if the threshold were ..." is a query (``SELECT ... WHERE longest_line <= 500``), not a run. Duplicates are dropped later
and are in it as kept; ``dropped.jsonl.zst`` names them by the same ids.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow
import pyarrow.parquet

from megatron_snow.corpus.signals import Signals

NAME = "signals.parquet"
SUFFIX = ".signals.parquet"
_ROWS = 20_000  # rows held before they are written (ours: some 5 MB)
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("language", pyarrow.string()),
        ("broken_rule", pyarrow.string()),  # "" where none is
        ("characters", pyarrow.int64()),
        ("lines", pyarrow.int64()),
        ("mean_line", pyarrow.float64()),  # characters
        ("longest_line", pyarrow.int64()),  # characters
        ("says_generated", pyarrow.bool_()),
        ("alphabetic_fraction", pyarrow.float64()),
        ("longest_encoded", pyarrow.int64()),  # characters
        ("encoded_fraction", pyarrow.float64()),
        ("visible_characters", pyarrow.int64()),  # null for what is no HTML
        ("code_lines", pyarrow.int64()),  # that are not blank
        ("literal_fraction", pyarrow.float64()),  # of those
    ]
)


class SignalTable:
    """Rows of one task, written in pieces; the file appears whole where the body ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._rows: list[tuple[Any, ...]] = []
        self._writer: Any = None

    def add(self, identifier: str, language: str, broken_rule: str, measured: Signals) -> None:
        """One file's row."""
        lines, encoded = measured.lines, measured.encoded
        self._rows.append(
            (
                *(identifier, language, broken_rule),
                *(measured.characters, lines.count, lines.mean, lines.longest, measured.generated, measured.alphabetic),
                *(encoded.longest, encoded.fraction, measured.visible, measured.table_lines, measured.table_share),
            )
        )
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in SCHEMA)
        self._writer.write_table(pyarrow.table([pyarrow.array(list(c), field.type) for c, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA))
        self._rows = []

    def __enter__(self) -> SignalTable:
        self._writer = pyarrow.parquet.ParquetWriter(self._part, SCHEMA, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            os.replace(self._part, self._path)


def join_tables(parts: Sequence[Path], path: Path) -> None:
    """The tasks' rows in task order, one task in memory at a time; the file appears whole."""
    part = path.with_name(path.name + ".part")
    with pyarrow.parquet.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        for one in parts:
            file = pyarrow.parquet.ParquetFile(one)
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group))
    os.replace(part, path)
