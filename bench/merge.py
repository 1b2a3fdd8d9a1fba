#!/usr/bin/env python3
"""Merging indexed datasets (with the checksum file) against copying the same bytes with cat and sync, in turn.

    python bench/merge.py [--megabytes 300] [--repeat 5]

Two datasets of the given size each; shown are medians of wall seconds and the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from megatron_snow.tokens.inspection import merge_datasets
from megatron_snow.tokens.writer import IndexedWriter

DOCUMENT = 3000  # tokens


def write(prefix: Path, tokens: np.ndarray) -> None:
    """A dataset of uint16 tokens."""
    with IndexedWriter(prefix, np.dtype("<u2")) as out:
        for start in range(0, len(tokens), DOCUMENT):
            out.add(tokens[start : start + DOCUMENT])
        out.finish()


def copy(folder: Path) -> None:
    """Both files of both datasets into one each, made durable, with the standard tools."""
    for suffix in ("bin", "idx"):
        with (folder / f"copied.{suffix}").open("wb") as out:
            subprocess.run(["cat", folder / f"a.{suffix}", folder / f"b.{suffix}"], stdout=out, check=True)
        subprocess.run(["sync", folder / f"copied.{suffix}"], check=True)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--repeat", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokens = np.random.default_rng(0).integers(0, 60_000, int(flags.megabytes * 5e5)).astype("<u2")
        for name in "ab":
            write(folder / name, tokens)
        seconds: dict[str, list[float]] = {"merge": [], "cat and sync": []}
        for _ in range(flags.repeat):
            for name, work in (("merge", lambda: merge_datasets([folder / "a", folder / "b"], folder / "merged")), ("cat and sync", lambda: copy(folder))):
                for old in (*folder.glob("merged*"), *folder.glob("copied*")):
                    old.unlink()
                os.sync()
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(some) for name, some in seconds.items()}
        for name, median in medians.items():
            print(f"{name:14} {median:6.2f} s  {median / medians['cat and sync']:5.2f}x")


if __name__ == "__main__":
    main()
