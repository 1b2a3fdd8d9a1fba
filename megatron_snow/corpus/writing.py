"""Writes the shards of the tiers that ``finish`` planned, each a task of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document as Passed
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from megatron_snow.artifacts.documents import Document, write_shard
from megatron_snow.corpus.spool import SpoolReader, read_table


class WriteStep(PipelineStep):  # type: ignore[misc] # datatrove ships no types
    """Reads the texts of a shard in the order they lie in, and writes them in the order of the tier. Memory: a shard, about 256 MiB."""

    type = "WRITER"
    name = "tier"

    def __init__(self, plan: Path, spool: Path, target: Path, names: Sequence[str]) -> None:
        """``plan``: a file of index rows for each task; ``names``: the tasks' shards below ``target``."""
        super().__init__()
        self.plan, self.spool, self.target, self.names = plan, spool, target, list(names)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Passed]:
        """Write the shard of task ``rank``; yields nothing."""
        rows: list[dict[str, Any]] = read_table(self.plan / f"{rank:05d}.arrow").to_pylist()
        texts: dict[int, bytes] = {}
        with SpoolReader(self.spool) as reader:
            for number in sorted(range(len(rows)), key=lambda number: (rows[number]["task"], rows[number]["offset"])):
                row = rows[number]
                texts[number] = reader.text(row["task"], row["offset"], row["length"])
        path = self.target / self.names[rank]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(path, (_document(row, texts.pop(number)) for number, row in enumerate(rows)))
        yield from ()


def _document(row: dict[str, Any], text: bytes) -> Document:
    return Document(
        id=row["id"], text=text.decode(), language=row["language"], repository=row["repository"], path=row["path"], license=row["license"],
        source=row["source"],
    )  # fmt: skip
