"""Embedding and scoring in windows of files, each kept as a part file once done: a killed run goes on with the next window.

A window is a run of consecutive files; what it yields for a file depends on that file only, so that windows can be cut and
computed anywhere in any order. Parts are keyed by what shaped them (device, precision, head), since the
settings alone do not say. The next windows are read and tokenised while one is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from megatron_snow.artifacts.documents import read_shard, shards
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.quality.crew import EncoderCrew, ahead
from megatron_snow.quality.heads import Heads
from megatron_snow.quality.labelled import Example
from megatron_snow.quality.survey import Sample
from megatron_snow.tokens.encoder import CodeTokenizer, counting_encoder

T = TypeVar("T")
WINDOW_CHARACTERS = 2**25  # 32 Mi: a window's texts and tokens stay under a gigabyte whatever the files' sizes (ours)

SCORED = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("repository", pa.string()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("sections", pa.int8()),
    ]
)
"""A row of a scored part: ``score``, ``probability`` (the calibrated score, null where its head has no calibrator), ``tokens`` in the recipe's tokenizer,
``bytes`` of the text in UTF-8, ``sections`` the score is the mean of."""


@dataclass(frozen=True)
class Labelled:
    """The labelled files with their embedded sections."""

    examples: list[Example]
    vectors: np.ndarray
    """float32 [sections, width]; an example's sections are consecutive."""
    counts: np.ndarray
    """int64 [examples]: sections of each."""

    def part(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(vectors, counts) of the examples where ``mask`` (bool [examples]) holds."""
        return self.vectors[np.repeat(mask, self.counts)], self.counts[mask]


def _windows(items: Iterable[tuple[T, str]], files: int) -> Iterator[list[tuple[T, str]]]:
    """Runs of ``files`` (item, text) pairs, or of fewer with ``WINDOW_CHARACTERS`` together."""
    window: list[tuple[T, str]] = []
    characters = 0
    for item, text in items:
        window.append((item, text))
        characters += len(text)
        if len(window) == files or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _in_files(bar: Progress, files: int, sections: int) -> Callable[[int], None]:
    """Moves a bar that counts files by ``files`` in all while ``sections`` are reported done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        bar.advance((done + more) * files // sections - done * files // sections)
        done += more

    return advance


def embed_labelled(crew: EncoderCrew, labelled: Iterable[tuple[Example, str]], total: int, parts: Path) -> Labelled:
    """Embed every labelled file, or read its window from ``parts``."""
    from safetensors.numpy import load_file, save

    folder = parts / f"labelled-{crew.encoder.kind}"
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[Example] = []
    vectors, counts = [], []

    def prepare() -> Iterator[tuple[Path, list[Example], list[list[np.ndarray]] | None]]:
        for number, window in enumerate(_windows(labelled, crew.encoder.window)):
            path = folder / f"{number:05d}.safetensors"
            yield path, [example for example, _ in window], None if path.exists() else crew.encoder.sections([text for _, text in window])

    with Progress("embedding labelled files", total, "files") as bar:
        for path, found, sections in ahead(prepare()):
            if sections is not None:
                write_atomically(path, save(dict(zip(("vectors", "counts"), _embed(crew, sections, bar), strict=True))))
            else:
                bar.advance(len(found))
            part = load_file(path)
            vectors.append(part["vectors"])
            counts.append(part["counts"])
            examples += found
    return Labelled(examples, np.concatenate(vectors), np.concatenate(counts))


def score_tier(crew: EncoderCrew, heads: Heads, standard: Path, sample: Sample, tokenizer: CodeTokenizer, parts: Path) -> pa.Table:
    """Score the documents of ``sample``; returns a table of ``SCORED`` rows in the tier's row order."""
    with Progress("scoring", sample.count, "files") as bar:
        tables = [pq.read_table(path) for path in score_shards(crew, heads, shards(standard), sample, tokenizer, scored_folder(crew, heads, parts), bar)]
    return pa.concat_tables(tables) if tables else SCORED.empty_table()


def scored_folder(crew: EncoderCrew, heads: Heads, parts: Path) -> Path:
    """Where the parts of these scores are kept."""
    return parts / f"scored-{crew.encoder.kind}-{heads.digest[:16]}"


def score_shards(
    crew: EncoderCrew, heads: Heads, chosen: Sequence[Path], sample: Sample, tokenizer: CodeTokenizer, folder: Path, bar: Progress
) -> Iterator[Path]:
    """Score some shards' documents of ``sample``, a part file a window, those that are there left as they are; yields the parts in row order.

    Windows end with their shard, so that shards can be scored anywhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counter = counting_encoder(tokenizer.folder)

    def prepare() -> Iterator[tuple[Path, int, list[list[np.ndarray]], dict[str, list[Any]]]]:
        for shard in chosen:
            documents = ((document, document["text"]) for document in read_shard(shard) if document["id"] in sample)
            for number, window in enumerate(_windows(documents, crew.encoder.window)):
                path = folder / f"{shard.name.partition('.')[0]}-{number:06d}.parquet"
                if path.exists():
                    yield path, len(window), [], {}
                    continue
                texts = [text for _, text in window]
                columns: dict[str, list[Any]] = {name: [document[name] for document, _ in window] for name in ("id", "language", "repository")}
                columns |= {"tokens": counter.count(texts), "bytes": [len(text.encode("utf-8", "surrogatepass")) for text in texts]}
                yield path, len(window), crew.encoder.sections(texts), columns

    for path, files, sections, columns in ahead(prepare()):
        if columns:
            vectors, counts = _embed(crew, sections, bar)
            scores = heads.file_scores(vectors, counts, columns["language"])
            found = heads.probability(scores, columns["language"])
            probability = pa.nulls(len(scores), pa.float64()) if found is None else pa.array(found, from_pandas=True)  # NaN is null
            table = pa.table({**columns, "score": scores, "probability": probability, "sections": counts}, schema=SCORED)
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            write_atomically(path, sink.getvalue().to_pybytes())
        else:
            bar.advance(files)
        yield path


def _embed(crew: EncoderCrew, sections: list[list[np.ndarray]], bar: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all sections and their number for each file; the bar moves by the number of files in all."""
    counts = np.array([len(found) for found in sections], dtype=np.int64)
    return crew.embed([section for found in sections for section in found], _in_files(bar, len(sections), int(counts.sum()))), counts
