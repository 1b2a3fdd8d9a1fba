"""The tokenize arrow: tiers of files in, indexed datasets out, in numbered shards that a killed run does not redo.

A shard is four files: ``NNNNN.bin`` and ``.idx`` (Megatron's format), ``NNNNN.documents.jsonl.zst`` (row i: what document
i is made of) and, written last, ``NNNNN.json`` (what it counts, and the tier's row the next shard begins with). Where a
shard ends depends on the documents alone, so a run that goes on after a kill, or with other workers, writes the same
bytes. Reading, grouping and writing are one process; encoding is ``workers`` more.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import zstandard
from pydantic import ValidationError

from megatron_snow.artifacts.documents import shards
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import Settings
from megatron_snow.tokens.encoder import BATCH, CodeTokenizer, Ids, Lengths, load_tokenizer
from megatron_snow.tokens.fast import with_engine
from megatron_snow.tokens.grouping import Position, TrainingDocument, gather_repositories, training_documents
from megatron_snow.tokens.indexed import token_dtype
from megatron_snow.tokens.pool import cpus, encode_stream
from megatron_snow.tokens.settings import TokenizeSettings
from megatron_snow.tokens.special import END_OF_TEXT, FILE_SEPARATOR, REPOSITORY_NAME
from megatron_snow.tokens.writer import IndexedWriter


class Counts(Settings):
    """What some text amounts to."""

    documents: int = 0
    files: int = 0
    tokens: int = 0
    characters: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class Shard(Settings):
    """``NNNNN.json``: a finished shard."""

    languages: dict[str, Counts]
    """Files, tokens and characters count for the file's language, documents for the language most of their text is in."""
    next: Position | None
    """Where in the tier the next shard begins; None after the last."""


@dataclass(frozen=True)
class Encoded:
    """A training document as tokens."""

    tier: str
    document: TrainingDocument
    tokens: npt.NDArray[Any]
    ends: list[int]
    """Where each file's tokens end; the end-of-text token follows the last."""


def tokenize(settings: TokenizeSettings, seed: int, tiers: Mapping[str, Path], tokenizer: Path, work: Path) -> dict[str, Any]:
    """Write ``work/<tier>/NNNNN.bin/.idx`` and the sidecars for every tier of ``tiers``; finished shards are kept.

    A sidecar row: ids, ends (where in the document each file's tokens end), language, repository, metadata (whether it
    names its files). ``work/summary.json``, and what is returned: vocabulary, token type, documents, files, tokens,
    and by tier the same with characters, characters_per_token, shards and languages. Tokens are unique ones: every
    tier counted once, end-of-text tokens included.
    Raises SnowError where a tier has no documents or the tokenizer is not the tokenizer arrow's.
    """
    code = load_tokenizer(tokenizer)
    finished = {tier: _finished(work / tier) for tier in tiers}
    unfinished = {tier: path for tier, path in tiers.items() if not finished[tier] or finished[tier][-1].next is not None}
    for tier, path in unfinished.items():
        shards(path)  # a missing tier is named before anything is written
        (work / tier).mkdir(exist_ok=True)
    if unfinished:
        with Progress("tokenizing", unit="tokens") as bar:
            for tier, encoded in itertools.groupby(_encode(settings, seed, unfinished, finished, code, work), key=lambda one: one.tier):
                bar.note = tier
                _write_shards(settings, work / tier, token_dtype(code.vocabulary), len(finished[tier]), encoded, bar)
    for tier, path in tiers.items():
        finished[tier] = _finished(work / tier)
        if not finished[tier]:
            raise SnowError(f"the {tier} tier ({path}) holds no document; look at the funnel of the arrow that wrote it: filters or budget let nothing through")
        shutil.rmtree(_gathered(work, tier), ignore_errors=True)
    summary = _summary(finished, code)
    write_atomically(work / "summary.json", json.dumps(summary, indent=1).encode())
    return summary


def _finished(folder: Path) -> list[Shard]:
    """The finished shards of a tier, in order."""
    found: list[Shard] = []
    while (path := folder / f"{len(found):05d}.json").exists():
        try:
            found.append(Shard.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise SnowError(f"{path} is damaged or from another version; delete {folder} and run again") from error
    return found


def _gathered(work: Path, tier: str) -> Path:
    return work / f"{tier}.gathered"


def _documents(
    settings: TokenizeSettings, seed: int, tiers: Mapping[str, Path], finished: Mapping[str, list[Shard]], work: Path
) -> Iterator[tuple[str, TrainingDocument]]:
    for tier, path in tiers.items():
        form = settings.of(tier)
        if form.grouping == "repository":
            if not (_gathered(work, tier) / "DONE").exists():
                shutil.rmtree(_gathered(work, tier), ignore_errors=True)
                gather_repositories(path, _gathered(work, tier), seed)
                (_gathered(work, tier) / "DONE").touch()
            path = _gathered(work, tier)
        start = finished[tier][-1].next if finished[tier] else Position()
        assert start is not None  # the tier is unfinished
        for document in training_documents(path, form, settings.document, seed, start):
            yield tier, document


def _encode(
    settings: TokenizeSettings, seed: int, tiers: Mapping[str, Path], finished: Mapping[str, list[Shard]], code: CodeTokenizer, work: Path
) -> Iterator[Encoded]:
    """The training documents of all tiers as tokens, in order."""
    waiting: deque[tuple[str, TrainingDocument]] = deque()

    def batches() -> Iterator[tuple[list[str], None]]:
        texts: list[str] = []
        size = 0
        for tier, document in _documents(settings, seed, tiers, finished, work):
            waiting.append((tier, document))
            for piece in document.pieces():
                texts.append(piece)
                size += len(piece)
                if size >= BATCH:
                    yield texts, None
                    texts, size = [], 0
        yield texts, None

    dtype = token_dtype(code.vocabulary)
    pieces: list[npt.NDArray[Any]] = []
    for piece in _pieces(encode_stream(with_engine(code.spec, settings.engine), batches(), settings.workers or cpus())):
        pieces.append(piece)
        tier, document = waiting[0]
        if len(pieces) == len(document.files) + document.with_metadata:
            waiting.popleft()
            tokens, ends = _assemble(pieces, document.with_metadata, code.special, dtype)
            yield Encoded(tier, document, tokens, ends)
            pieces = []


def _pieces(encoded: Iterable[tuple[Ids, Lengths, None]]) -> Iterator[npt.NDArray[Any]]:
    for ids, lengths, _ in encoded:
        end = 0
        for length in lengths.tolist():
            yield ids[end : end + length]
            end += length


def _assemble(pieces: list[npt.NDArray[Any]], with_metadata: bool, special: dict[str, int], dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], list[int]]:
    """``<repo_name>`` name, then ``<file_sep>`` file for each, then ``<|endoftext|>``: StarCoder2's formats (arXiv 2402.19173, section 5.1)."""
    tokens = np.empty(sum(map(len, pieces)) + len(pieces) + 1, dtype)
    ends, at = [], 0
    for i, piece in enumerate(pieces):
        tokens[at] = special[REPOSITORY_NAME if with_metadata and i == 0 else FILE_SEPARATOR]
        tokens[at + 1 : at + 1 + len(piece)] = piece
        at += 1 + len(piece)
        ends.append(at)
    tokens[at] = special[END_OF_TEXT]
    return tokens, ends[with_metadata:]


def _write_shards(settings: TokenizeSettings, folder: Path, dtype: np.dtype[Any], first: int, encoded: Iterator[Encoded], bar: Progress) -> None:
    for number in itertools.count(first):
        head = next(encoded, None)
        if head is None:
            return
        _write_shard(settings.shard, folder / f"{number:05d}", dtype, itertools.chain([head], encoded), bar)


def _write_shard(size: int, prefix: Path, dtype: np.dtype[Any], encoded: Iterator[Encoded], bar: Progress) -> None:
    """Take documents from ``encoded`` until the shard is full, and publish it."""
    sidecar = prefix.with_name(prefix.name + ".documents.jsonl.zst")
    part = sidecar.with_name(sidecar.name + ".part")
    languages: dict[str, Counts] = {}
    after: Position | None = None
    with IndexedWriter(prefix, dtype) as out, part.open("wb") as raw:
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as rows:
            for one in encoded:
                out.add(one.tokens)
                rows.write(orjson.dumps(_row(one)) + b"\n")
                _count(languages, one)
                after = one.document.after
                bar.advance(len(one.tokens))
                if out.bin_bytes >= size:
                    break
        raw.flush()
        os.fsync(raw.fileno())
        out.finish()
    os.replace(part, sidecar)
    shard = Shard(languages=dict(sorted(languages.items())), next=after)
    write_atomically(prefix.with_name(prefix.name + ".json"), shard.model_dump_json(indent=1).encode())


def _row(one: Encoded) -> dict[str, Any]:
    files = one.document.files
    return {
        "ids": [file["id"] for file in files],
        "ends": one.ends,
        "language": one.document.language,
        "repository": files[0]["repository"],
        "metadata": one.document.with_metadata,
    }


def _count(languages: dict[str, Counts], one: Encoded) -> None:
    starts = [0, *one.ends[:-1]]  # what stands before a file counts with it, the end-of-text token with the last
    ends = [*one.ends[:-1], len(one.tokens)]
    for file, start, end in zip(one.document.files, starts, ends, strict=True):
        languages[file["language"]] = languages.get(file["language"], Counts()) + Counts(files=1, tokens=end - start, characters=len(file["text"]))
    languages[one.document.language] += Counts(documents=1)


def _summary(finished: Mapping[str, list[Shard]], code: CodeTokenizer) -> dict[str, Any]:
    tiers: dict[str, Any] = {}
    whole = Counts()
    for tier, some in finished.items():
        languages: dict[str, Counts] = {}
        for shard in some:
            for language, counts in shard.languages.items():
                languages[language] = languages.get(language, Counts()) + counts
        total = sum(languages.values(), Counts())
        whole += total
        tiers[tier] = {
            **total.model_dump(),
            "characters_per_token": round(total.characters / total.tokens, 3),
            "shards": len(some),
            "languages": {language: counts.model_dump() for language, counts in sorted(languages.items())},
        }
    dtype = token_dtype(code.vocabulary)
    return {"tokens": whole.tokens, "documents": whole.documents, "files": whole.files, "vocabulary": code.vocabulary, "token_type": dtype.name, "tiers": tiers}
