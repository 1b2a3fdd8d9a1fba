#!/usr/bin/env python3
"""Raw source text to MinHash signatures: ours against datatrove's signature stage with a plain-word tokenizer, in turn.

    python bench/signatures.py [--megabytes 60] [--repeat 3] [--workers 2]

The text is the running Python's standard library and installed packages. Both make 25 bands of 10 rows from word
5-grams, and write them; both run in as many processes as ``--workers``. The peer is spared its text normalisation. Shown
are medians of MB/s over all processes, and the ratio. Imports and process start are not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger

from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import band_keys

BATCH = 256  # documents, as in corpus.steps


class PlainWords(WordTokenizer):  # type: ignore[misc] # datatrove ships no types
    """Words as BigCode's script splits them."""

    _word = re.compile("[A-Za-z_0-9]+")

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return self._word.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Abstract in datatrove's class; signatures ask for words alone."""
        raise AssertionError("signatures ask for words alone")

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Abstract in datatrove's class; signatures ask for words alone."""
        raise AssertionError("signatures ask for words alone")


def texts(megabytes: float) -> list[str]:
    """Python files, round robin over the folders they are found in, up to the size asked for."""
    found, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"), key=lambda path: path.name):
        text = path.read_text(encoding="utf-8", errors="ignore")
        found.append(text)
        size += len(text)
        if size > megabytes * 1e6:
            break
    return found


def ours(shard: list[str], folder: Path) -> None:
    """Signatures as the corpus's spool step makes them."""
    settings = NearDuplicateSettings()
    parts = [band_keys([text.encode() for text in shard[start : start + BATCH]], settings) for start in range(0, len(shard), BATCH)]
    np.save(folder / "bands.npy", np.concatenate(parts))


def theirs(shard: list[str], folder: Path) -> None:
    """Datatrove's first stage."""
    logger.remove()
    norm = TextNormConfig(lowercase=False, norm_whitespace=False, remove_punctuation=False, norm_unicode_diacritics=False, norm_numbers=False)
    config = MinhashConfig(n_grams=5, num_buckets=25, hashes_per_bucket=10, norm_config=norm)
    step = MinhashDedupSignature(str(folder), config, language=PlainWords())
    step._hash_func = lambda words: xxhash.xxh64_intdigest(words.encode())  # datatrove 0.10's own takes xxhash below 4 only
    step.run((Document(text=text, id=str(i)) for i, text in enumerate(shard)), 0, 1)


def worker(pipe: Any, shard: list[str]) -> None:
    """Run what is asked for until told to end."""
    while (name := pipe.recv()) != "end":
        with tempfile.TemporaryDirectory() as folder:
            {"ours": ours, "theirs": theirs}[name](shard, Path(folder))
        pipe.send(name)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    every = texts(flags.megabytes)
    size = sum(len(text.encode()) for text in every) / 1e6
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(flags.workers):
        mine, other = context.Pipe()
        context.Process(target=worker, args=(other, every[number :: flags.workers]), daemon=True).start()
        pipes.append(mine)

    def timed(name: str) -> float:
        start = time.perf_counter()
        for pipe in pipes:
            pipe.send(name)
        for pipe in pipes:
            pipe.recv()
        return time.perf_counter() - start

    timed("ours")  # starts the processes
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(flags.repeat):
        for name, some in seconds.items():
            some.append(timed(name))
    for pipe in pipes:
        pipe.send("end")
    rates = {name: size / statistics.median(some) for name, some in seconds.items()}
    print(f"{len(every)} files, {size:.0f} MB, {flags.workers} processes, medians of {flags.repeat}")
    for name, rate in rates.items():
        print(f"{name:8} {rate:7.1f} MB/s  {rate / rates['theirs']:6.2f}x")


if __name__ == "__main__":
    main()
