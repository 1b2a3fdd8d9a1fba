"""Megatron-LM's preprocess_data.py: rows of text in, ``<prefix>_<key>_document.bin/.idx`` out, the same bytes.

Rows stream through encoding processes into the writers, so memory does not grow with the input. Every
``commit_bytes`` of text the output is made durable and ``<prefix>.progress.json`` notes where the input stood: a
killed run goes on there. With ``--partitions`` n, Megatron-LM deals rows out to n files in turn and joins these: so
do we (``keep_sequential_samples`` keeps the input's order). Beside each dataset stands a checksum file for verify.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import format_count
from megatron_snow.tokens.encoder import BATCH, TEXT_END, Ids, Lengths
from megatron_snow.tokens.fast import with_engine
from megatron_snow.tokens.given import GivenTokenizer, fingerprint_text
from megatron_snow.tokens.indexed import IndexedDataset, bin_path, idx_path, token_dtype
from megatron_snow.tokens.inputs import check_sums, expand, read_rows
from megatron_snow.tokens.pool import cpus, encode_stream
from megatron_snow.tokens.sentences import SplitterSpec
from megatron_snow.tokens.settings import Engine
from megatron_snow.tokens.writer import IndexedWriter, Written, write_checksums


@dataclass(frozen=True)
class PreprocessOptions:
    """What the flags say, under their names."""

    input: Sequence[str]
    output_prefix: Path
    json_keys: Sequence[str] = ("text",)
    append_eod: bool = False
    workers: int | None = None
    partitions: int = 1
    keep_sequential_samples: bool = False
    log_interval: int = 1000
    engine: Engine = "auto"
    sentences: SplitterSpec | None = None
    """Cut texts into these: ``--split-sentences``, and what belongs to it."""
    commit_bytes: int = 2**28
    """Characters of text between two points a killed run can go on from (ours: some seconds to a minute of work)."""

    @property
    def level(self) -> str:
        """What ends the names of the datasets."""
        return "sentence" if self.sentences else "document"

    @property
    def lanes(self) -> int:
        """How many files rows are dealt out to."""
        return 1 if self.keep_sequential_samples else self.partitions


class Progress(Settings):
    """``<prefix>.progress.json``: how far a killed run got."""

    job: str
    """Digest of everything that decides the output."""
    file: int
    offset: int
    """Reading goes on in input ``file`` at this offset (see ``inputs``)."""
    rows: int
    written: dict[str, Written]
    """By writer: ``<key>/<lane>``."""


@dataclass(frozen=True)
class _Batch:
    """What stays here while a batch's texts are encoded; ``counts`` [rows, keys]: how many texts each value of each row gave."""

    counts: npt.NDArray[np.int64]
    file: int
    offset: int
    characters: int


def preprocess(options: PreprocessOptions, tokenizer: GivenTokenizer) -> dict[str, int]:
    """Write the datasets and return documents, tokens and characters.

    Raises SnowError for bad input (see ``inputs``), an output folder that does not exist, ``append_eod`` with a
    tokenizer that has no end-of-document token.
    """
    files = expand(options.input)
    tokenizer = dataclasses.replace(tokenizer, spec=dataclasses.replace(tokenizer.spec, sentences=options.sentences))
    if options.sentences:
        options.sentences.build()  # what is missing is said before anything is written
    if len(set(options.json_keys)) < len(options.json_keys):
        raise SnowError(f"--json-keys {' '.join(options.json_keys)}: a key is named twice; each gets one dataset")
    if options.append_eod and tokenizer.end_of_document is None:
        raise SnowError("--append-eod: the tokenizer names no end-of-sequence token; set eos_token in its tokenizer_config.json, or leave the flag out")
    if not options.output_prefix.parent.is_dir():
        raise SnowError(f"--output-prefix {options.output_prefix}: the folder {options.output_prefix.parent} does not exist; make it first")
    note = options.output_prefix.with_name(options.output_prefix.name + ".progress.json")
    if checked := check_sums(files):
        say(f"{checked} of {len(files)} input files have a .sha256 beside them, and match it")
    progress = _read_progress(note, _job(options, tokenizer, files))
    if progress.rows:
        say(f"going on behind row {format_count(progress.rows)}, where a run before this one stopped")
    writers, characters = _encode(options, tokenizer, files, progress, note)
    data = [_join(options, key, token_dtype(tokenizer.vocabulary)) for key in options.json_keys]
    note.unlink()  # from here on there is nothing to go on with: what follows only clears up
    for writer in writers:
        writer.discard()
    for lane in [_lane_prefix(options, key, lane) for key in options.json_keys for lane in range(options.lanes) if options.lanes > 1]:
        bin_path(lane).unlink()
        idx_path(lane).unlink()
    return {"documents": len(data[0]), "tokens": sum(one.tokens for one in data), "characters": characters}


def dataset_prefix(options: PreprocessOptions, key: str) -> Path:
    """Where the dataset of a key goes."""
    return options.output_prefix.with_name(f"{options.output_prefix.name}_{key}_{options.level}")


def _lane_prefix(options: PreprocessOptions, key: str, lane: int) -> Path:
    if options.lanes == 1:
        return dataset_prefix(options, key)
    return options.output_prefix.with_name(f"{options.output_prefix.name}_{lane}_{key}_{options.level}")


def _job(options: PreprocessOptions, tokenizer: GivenTokenizer, files: list[Path]) -> str:
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = repr((list(options.json_keys), options.append_eod, options.lanes, tokenizer.vocabulary, tokenizer.end_of_document, stats))
    return hashlib.sha256(facts.encode() + fingerprint_text(tokenizer.spec)).hexdigest()


def _read_progress(note: Path, job: str) -> Progress:
    """The note of a killed run that did the same job, else a start."""
    try:
        found = Progress.model_validate_json(note.read_bytes())
    except FileNotFoundError:
        return Progress(job=job, file=0, offset=0, rows=0, written={})
    except ValidationError as error:
        raise SnowError(f"{note} is damaged; delete it to start over") from error
    return found if found.job == job else Progress(job=job, file=0, offset=0, rows=0, written={})


def _encode(options: PreprocessOptions, tokenizer: GivenTokenizer, files: list[Path], progress: Progress, note: Path) -> tuple[list[IndexedWriter], int]:
    """Encode every row not yet written and finish the writers; also the characters read."""
    dtype = token_dtype(tokenizer.vocabulary)
    end = tokenizer.end_of_document if options.append_eod else None
    rows, pending = progress.rows, 0
    spec = with_engine(tokenizer.spec, options.engine)
    log = _Log(options.log_interval, rows)
    with ExitStack() as stack:
        writers = {
            f"{key}/{lane}": stack.enter_context(IndexedWriter(_lane_prefix(options, key, lane), dtype, progress.written.get(f"{key}/{lane}")))
            for key in options.json_keys
            for lane in range(options.lanes)
        }
        for ids, lengths, batch in encode_stream(spec, _batches(options, files, progress), options.workers or cpus()):
            counts = batch.counts
            if options.sentences:
                lengths, counts = _sentences(lengths, counts.shape)
            lanes = (rows + np.arange(len(batch.counts))) % options.lanes
            for key, lane, documents in _parted(ids, lengths, counts, lanes, end):
                writers[f"{options.json_keys[key]}/{lane}"].add_batch(*documents)
            rows += len(batch.counts)
            log.show(rows, batch.characters)
            pending += batch.characters
            if pending >= options.commit_bytes:
                _commit(note, progress.job, batch, rows, writers)
                pending = 0
        _commit(note, progress.job, _Batch(np.empty((0, 0), np.int64), len(files), 0, 0), rows, writers)
        for writer in writers.values():
            writer.finish(discard=False)
    return list(writers.values()), log.characters


def _commit(note: Path, job: str, batch: _Batch, rows: int, writers: dict[str, IndexedWriter]) -> None:
    written = {name: writer.commit() for name, writer in writers.items()}
    write_atomically(note, Progress(job=job, file=batch.file, offset=batch.offset, rows=rows, written=written).model_dump_json().encode())


def _batches(options: PreprocessOptions, files: list[Path], progress: Progress) -> Iterator[tuple[list[str], _Batch]]:
    texts: list[str] = []
    shapes: list[list[int]] = []
    size = 0
    for number in range(progress.file, len(files)):
        for row in read_rows(files[number], options.json_keys, progress.offset if number == progress.file else 0):
            shapes.append([len(sentences) for sentences in row.values])
            for sentences in row.values:
                if options.sentences and len(sentences) != 1:
                    raise SnowError(f"{files[number]}: a value is a list of texts already; leave out --split-sentences")
                texts += sentences
                size += sum(map(len, sentences))
            if size >= BATCH:
                yield texts, _Batch(np.array(shapes, np.int64), number, row.after, size)
                texts, shapes, size = [], [], 0
        if shapes:
            yield texts, _Batch(np.array(shapes, np.int64), number + 1, 0, size)
            texts, shapes, size = [], [], 0


Documents = tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Tokens, the lengths of the sequences, how many of these each document has: see ``IndexedWriter.add_batch``."""


def _sentences(lengths: Lengths, shape: tuple[int, ...]) -> tuple[Lengths, npt.NDArray[np.int64]]:
    """The lengths of the sentences, and how many each value has, out of what a ``SentenceEncoder`` gives for one text a value."""
    ends = np.flatnonzero(lengths == TEXT_END)
    return np.delete(lengths, ends), np.diff(ends - np.arange(len(ends)), prepend=0).reshape(shape)


def _parted(ids: Ids, lengths: Lengths, counts: npt.NDArray[np.int64], lanes: npt.NDArray[np.int64], end: int | None) -> Iterator[tuple[int, int, Documents]]:
    """A batch by key and lane. Empty texts are no sequences, and ``end`` closes each document that has any, as in Megatron-LM."""
    rows, keys = counts.shape
    value = np.repeat(np.arange(rows * keys), counts.ravel())  # of each text: row x keys + key
    whole = keys == 1 and not lanes.any()
    for key in range(keys):
        for lane in [0] if whole else np.unique(lanes).tolist():
            tokens, some, owner = ids, lengths, value
            if not whole:
                mine = (value % keys == key) & (lanes[value // keys] == lane)
                tokens, some, owner = ids[np.repeat(mine, lengths)], lengths[mine], value[mine]
            some, owner = some[some > 0], owner[some > 0] // keys
            sequences = np.bincount(owner, minlength=rows)[lanes == lane]
            if end is not None and len(some):
                last = np.append(owner[1:] != owner[:-1], True)
                tokens = np.insert(tokens, np.cumsum(some)[last], end)
                some = some + last
            yield key, lane, (tokens, some, sequences)


def _join(options: PreprocessOptions, key: str, dtype: np.dtype[Any]) -> IndexedDataset:
    """The lanes' datasets into one, in order; and the checksums."""
    target = dataset_prefix(options, key)
    if options.lanes > 1:
        with IndexedWriter(target, dtype) as out:
            for lane in range(options.lanes):
                out.append(IndexedDataset(_lane_prefix(options, key, lane)))
            out.finish()
    write_checksums(target)
    return IndexedDataset(target)


class _Log:
    """Megatron-LM's line every ``interval`` documents, at most one a batch."""

    def __init__(self, interval: int, rows: int) -> None:
        self.characters = 0
        self._interval, self._first, self._shown = interval, rows, rows
        self._start = time.monotonic()

    def show(self, rows: int, characters: int) -> None:
        self.characters += characters
        if rows - self._shown >= self._interval:
            seconds = max(time.monotonic() - self._start, 1e-9)
            self._shown = rows
            say(f"Processed {rows} documents ({(rows - self._first) / seconds:.1f} docs/s, {self.characters / seconds / 1e6:.2f} MB/s).")
