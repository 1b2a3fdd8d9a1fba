#!/usr/bin/env python3
"""Starting and reading beside megatron-core: seconds to the first sample, cold and warm, and microseconds a sample; medians of interleaved runs.

    python bench/sample_index.py [--documents 20_000_000] [--shards 2_400] [--tokens 500_000_000_000] [--repeat 5] [--folder FOLDER]

1. One dataset of many documents: from files to the first sample. Cold: no cache. Warm: each with its cache filled
   (megatron-core: its three .npy files, mapped; ours: --cache of PhaseDataset). Peer: GPTDataset over the same files.
2. A blend of three tiers over thousands of shards (.idx of real size, .bin of holes): from files to the first sample,
   without a cache, filling one, warm. No peer: megatron-core's blend of as many datasets takes minutes to build.
3. Reading: the dictionary a training step takes (tokens, labels, loss_mask, position_ids) of random samples of 8,192 tokens
   from a .bin in memory; and the tokens alone.

Wall and CPU seconds; the data are written under FOLDER (about 1 GB, removed at the end), nothing is dropped from the page cache.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.gpt import GPTSamples
from megatron_snow.tokens.indexed import Header

SEQUENCE = 8192  # paper, section 2


def write_shard(prefix: Path, lengths: np.ndarray, tokens: np.ndarray | None = None) -> None:
    """A dataset of one sequence a document; holes for tokens where none are given."""
    ends = np.cumsum(lengths, dtype="<i8")
    arrays = (lengths.astype("<i4"), 2 * (ends - lengths), np.arange(len(lengths) + 1, dtype="<i8"))
    prefix.with_suffix(".idx").write_bytes(Header(np.dtype("<u2"), len(lengths), len(lengths)).pack() + b"".join(array.tobytes() for array in arrays))
    with prefix.with_suffix(".bin").open("wb") as out:
        if tokens is not None:
            out.write(tokens.tobytes())
        out.truncate(2 * int(ends[-1]))


def interleaved(contestants: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Median (wall, CPU) seconds of each, run in turn."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(repeat):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: (median(wall for wall, _ in times), median(cpu for _, cpu in times)) for name, times in seconds.items()}


def show(title: str, seconds: dict[str, tuple[float, float]], peer: str | None = None, per: int = 1) -> None:
    """One table."""
    unit, scale = ("us", 1e6) if per > 1 else ("s", 1)
    print(f"\n{title}\n{'':34}{'wall ' + unit:>12}{'CPU ' + unit:>12}" + (f"{'x ' + peer:>22}" if peer else ""))
    for name, (wall, cpu) in seconds.items():
        print(f"{name:34}{wall / per * scale:12.4f}{cpu / per * scale:12.4f}" + (f"{seconds[peer][0] / wall:22.2f}" if peer else ""))


class Tokenizer:
    """As much of a tokenizer as megatron-core asks for."""

    eod, pad, vocab_size = 0, 65_000, 65_001
    special_tokens_dict: dict[str, int] = {}  # noqa: RUF012
    unique_identifiers: dict[str, str] = {}  # noqa: RUF012


def peer(prefix: Path, samples: int, cache: Path | None) -> object:
    """megatron-core's dataset over one prefix, opened as its builder opens it."""
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import Split

    config = GPTDatasetConfig(
        random_seed=1, sequence_length=SEQUENCE, blend=([str(prefix)], None), split="1,0,0", path_to_cache=str(cache), tokenizer=Tokenizer(),
        reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False, create_attention_mask=False,
    )  # fmt: skip
    low = GPTDataset.build_low_level_dataset(str(prefix), config)
    return GPTDataset(low, str(prefix), np.arange(len(low), dtype=np.int32), samples, Split.train, config)


def many_documents(folder: Path, documents: int, repeat: int) -> None:
    """From files to the first sample, one dataset."""
    (folder / "tier").mkdir(parents=True)
    lengths = np.random.default_rng(0).geometric(1 / 800, documents).astype(np.int32)
    write_shard(folder / "tier" / "00000", lengths)
    samples = int(lengths.sum(dtype=np.int64) - 1) // SEQUENCE
    emptied = iter(range(10**6))

    def ours(cache: Path | None) -> None:
        PhaseDataset(folder, {"tier": 1}, SEQUENCE, samples, 1, cache=cache)[0]

    theirs, mine = folder / "theirs", folder / "mine"
    time.sleep(2.5)  # an index changed within the last two seconds is read again
    peer(folder / "tier" / "00000", samples, theirs)
    ours(mine)
    show(
        f"first sample of {documents:,} documents in one dataset, {samples:,} samples",
        interleaved(
            {
                "megatron-core, cold": lambda: peer(folder / "tier" / "00000", samples, folder / f"cold{next(emptied)}")[0],
                "ours, no cache": lambda: ours(None),
                "ours, filling a cache": lambda: ours(folder / f"cold{next(emptied)}"),
                "megatron-core, warm": lambda: peer(folder / "tier" / "00000", samples, theirs)[0],
                "ours, warm": lambda: ours(mine),
            },
            repeat,
        ),
        "megatron-core, cold",
    )
    shutil.rmtree(folder)


def many_shards(folder: Path, shards: int, tokens: int, repeat: int) -> None:
    """From files to the first sample, a blend over thousands of shards."""
    tiers = {"standard": shards * 5 // 6, "high_quality": shards // 8, "synthetic": shards - shards * 5 // 6 - shards // 8}
    random, documents = np.random.default_rng(0), 10_000
    for tier, count in tiers.items():
        (folder / tier).mkdir(parents=True)
        for shard in range(count):
            parts = random.exponential(size=documents)
            lengths = np.maximum(parts / parts.sum() * (tokens // shards), 1).astype(np.int64)
            write_shard(folder / tier / f"{shard:05d}", lengths)
    emptied = iter(range(10**6))

    def ours(cache: Path | None) -> None:
        PhaseDataset(folder, {"standard": 0.8, "high_quality": 0.15, "synthetic": 0.05}, SEQUENCE, tokens // SEQUENCE, 1, cache=cache)[0]

    time.sleep(2.5)
    ours(folder / "cache")
    show(
        f"first sample of {tokens:,} tokens, {shards:,} shards, {shards * documents:,} documents",
        interleaved(
            {
                "ours, no cache": lambda: ours(None),
                "ours, filling a cache": lambda: ours(folder / f"cold{next(emptied)}"),
                "ours, warm": lambda: ours(folder / "cache"),
            },
            repeat,
        ),
    )
    shutil.rmtree(folder)


def reading(folder: Path, repeat: int, count: int = 1000) -> None:
    """Samples of a dataset that lies in memory."""
    (folder / "tier").mkdir(parents=True)
    random = np.random.default_rng(0)
    lengths = random.geometric(1 / 800, 60_000).astype(np.int32)
    write_shard(folder / "tier" / "00000", lengths, random.integers(0, 60_000, int(lengths.sum())).astype("<u2"))
    samples = int(lengths.sum() - 1) // SEQUENCE
    theirs, data = peer(folder / "tier" / "00000", samples, folder / "cache"), PhaseDataset(folder, {"tier": 1}, SEQUENCE, samples, 1)
    mine, asked = GPTSamples(data, 0), random.integers(0, samples, count).tolist()
    show(
        f"reading samples of {SEQUENCE:,} tokens, {len(lengths) / samples:.1f} documents each",
        interleaved(
            {
                "megatron-core, batch entry": lambda: [theirs[i] for i in asked],
                "ours, batch entry": lambda: [mine[i] for i in asked],
                "megatron-core, tokens": lambda: [theirs._query_document_sample_shuffle_indices(i) for i in asked],
                "ours, tokens": lambda: [data[i] for i in asked],
            },
            repeat,
        ),
        "megatron-core, batch entry",
        per=count,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000_000)
    parser.add_argument("--shards", type=int, default=2400)
    parser.add_argument("--tokens", type=int, default=500_000_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the data go; a temporary folder by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = f"megatron-core {importlib.metadata.version('megatron-core')}, numpy {np.__version__}, Python {platform.python_version()}"
    print(f"{versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        reading(Path(folder) / "reading", options.repeat)
        many_documents(Path(folder) / "documents", options.documents, options.repeat)
        many_shards(Path(folder) / "shards", options.shards, options.tokens, options.repeat)


if __name__ == "__main__":
    main()
