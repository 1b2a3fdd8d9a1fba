"""Look at, check and join indexed datasets: what tools/indexed_dataset.py does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_bytes, format_count
from megatron_snow.tokens.encoder import parse_tokenizer
from megatron_snow.tokens.indexed import IndexedDataset, bin_path, idx_path
from megatron_snow.tokens.writer import IndexedWriter, verify_checksums, write_checksums

_QUANTILES = (0, 10, 50, 90, 100)


def inspect_dataset(prefix: Path, document: int, tokens: int, tokenizer: Path | None) -> str:
    """Counts, quantiles of the documents' lengths and the first ``tokens`` tokens of one document.

    Raises SnowError where the dataset is damaged, has no such document or the tokenizer cannot be read.
    """
    data = IndexedDataset(prefix)
    counts = f"{format_count(len(data))} documents, {format_count(data.header.sequences)} sequences, {format_count(data.tokens)} tokens"
    lines = [
        f"{prefix}: {counts} ({data.dtype.name})",
        f".bin {format_bytes(data.bin_bytes)}, .idx {format_bytes(idx_path(prefix).stat().st_size)}",
    ]
    if not len(data):
        return "\n".join(lines)
    if not 0 <= document < len(data):
        raise SnowError(f"--document {document}: {prefix} has documents 0 to {len(data) - 1}")
    quantiles = np.percentile(data.lengths, _QUANTILES).astype(int)
    lines.append("tokens a document: " + ", ".join(f"{q} % {n}" for q, n in zip(_QUANTILES, quantiles, strict=True)))
    shown = data.doc(document)[:tokens].tolist()
    lines += [
        f"document {document}: {data.lengths[document]} tokens" + (f", the first {tokens}" if len(data.doc(document)) > tokens else ""),
        " ".join(map(str, shown)),
    ]
    if tokenizer is not None:
        lines += ["", decoder(tokenizer)(shown)]
    return "\n".join(lines)


def decoder(tokenizer: Path) -> Callable[[list[int]], str]:
    """What makes text of tokens, special ones too. Raises SnowError where ``tokenizer`` is no folder with a tokenizer.json, nor that file."""
    path = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    try:
        parsed = parse_tokenizer(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SnowError(f"--tokenizer {tokenizer}: no Hugging Face tokenizer.json there ({error})") from error
    return lambda tokens: str(parsed.decode(tokens, skip_special_tokens=False))


def verify_dataset(prefix: Path, vocabulary: int | None) -> str:
    """Check a dataset whole; says what was checked. Raises SnowError naming the first thing that is wrong."""
    summed = verify_checksums(prefix)
    data = IndexedDataset(prefix)
    data.verify(vocabulary)
    checked = ["structure", *(["every token"] if vocabulary else []), *(["checksums"] if summed else [])]
    note = "" if summed else " (no .sha256 beside it: a changed token cannot be found)"
    return f"{prefix}: good: {format_count(len(data))} documents, {format_count(data.tokens)} tokens; checked {', '.join(checked)}{note}"


def merge_datasets(prefixes: Sequence[Path], target: Path) -> str:
    """Join datasets in the order given, with a checksum file. Raises SnowError where one is damaged or of another token type."""
    if target in prefixes:
        raise SnowError(f"--output-prefix {target} is also an input; name another")
    if not target.parent.is_dir():
        raise SnowError(f"--output-prefix {target}: the folder {target.parent} does not exist; make it first")
    data = [IndexedDataset(prefix) for prefix in prefixes]
    writer = IndexedWriter(target, data[0].dtype)
    with ThreadPoolExecutor(1, "sha256") as pool:  # beside the copying, so that a second pass over the result is saved
        digest = pool.submit(_joint_sha256, [bin_path(one.prefix) for one in data])
        try:
            with writer:
                for one in data:
                    writer.append(one)
                merged = writer.finish()
        except SnowError:
            writer.discard()
            raise
        write_checksums(target, digest.result())
    return f"{bin_path(target)}: {format_count(len(merged))} documents, {format_count(merged.tokens)} tokens from {len(data)} datasets"


def _joint_sha256(paths: Sequence[Path]) -> str:
    """Of the files one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()
