#!/usr/bin/env python3
"""Blend and sample index beside megatron-core's: seconds of CPU to build, medians of interleaved runs, and the worst deviation.

    python bench/blend_index.py [--samples 10_000_000] [--documents 20_000_000] [--repeat 3]

Peers, all from the installed megatron-core: build_blending_indices, build_exhaustive_blending_indices, and for the sample
index what GPTDataset builds on a cold start (document order, build_sample_idx, sample order; without writing its cache).
CPU time of this process is compared, all are single-threaded: other load on the machine disturbs it least.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from megatron_snow.blend import native
from megatron_snow.blend.index import BlendSplit, blend_table

Timed = dict[str, list[float]]


def interleaved(contestants: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median CPU seconds of each, run in turn."""
    seconds: Timed = {name: [] for name in contestants}
    for _ in range(repeat):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: median(times) for name, times in seconds.items()}


def deviation(weights: np.ndarray, dataset_of: np.ndarray) -> float:
    """Largest |samples taken - asked| at any prefix."""
    worst = 0.0
    for dataset, share in enumerate(weights / weights.sum()):
        places = np.append(np.flatnonzero(dataset_of == dataset), len(dataset_of))
        taken = np.arange(len(places))
        worst = max(worst, float(np.max(places * share - taken)), float(np.max((taken + 1 - (places + 1) * share)[:-1], initial=0)))
    return worst


def blends(datasets: int, samples: int, repeat: int) -> None:
    """One table row per way to build a blend of ``datasets`` datasets."""
    from megatron.core.datasets import helpers_cpp

    weights = np.random.default_rng(0).random(datasets) + 1e-3
    weights /= weights.sum()
    sizes = np.floor(weights * samples).astype(np.int64) + 1
    exhaustive = int(sizes.sum())
    seconds = interleaved(
        {
            "megatron-core blending": lambda: helpers_cpp.build_blending_indices(
                np.zeros(samples, np.int16), np.zeros(samples, np.int64), weights, datasets, samples, False
            ),
            "megatron-core exhaustive": lambda: helpers_cpp.build_exhaustive_blending_indices(
                np.zeros(exhaustive, np.int16), np.zeros(exhaustive, np.int64), sizes, datasets
            ),
            "ours, table (Tijdeman)": lambda: blend_table(weights, samples, 0),
            "ours, no table, all dealt": lambda: BlendSplit(weights, 0).take(0, samples),
            "ours, no table, opened": lambda: BlendSplit(weights, 0),
        },
        repeat,
    )
    peer, slow = seconds["megatron-core blending"], seconds["megatron-core exhaustive"]
    print(f"\n{datasets} datasets, {samples:,} samples\n{'':28}{'CPU s':>10}{'ns/sample':>11}{'x blending':>12}{'x exhaustive':>14}")
    for name, taken in seconds.items():
        print(f"{name:28}{taken:10.4f}{taken / samples * 1e9:11.2f}{peer / taken:12.1f}{slow / taken:14.1f}")
    split = BlendSplit(weights, 0)
    asked = np.random.default_rng(1).integers(0, samples, 100_000).tolist()
    print(f"one look-up from Python, anywhere: {interleaved({'at': lambda: [split[i] for i in asked]}, repeat)['at'] / len(asked) * 1e6:.2f} us")


def deviations(samples: int) -> None:
    """The worst deviation on skewed blends, each way."""
    from megatron.core.datasets import helpers_cpp

    skewed = {"0.5 + 1023 equal": [0.5] + [0.5 / 1023] * 1023, "Zipf, 1024": [1 / (k + 1) for k in range(1024)], "0.9 / 0.09 / 0.01": [0.9, 0.09, 0.01]}
    print(f"\nworst deviation in samples at any prefix of {samples:,}\n{'':28}{'megatron-core':>14}{'table':>9}{'no table':>10}")
    for name, raw in skewed.items():
        weights = np.array(raw) / np.sum(raw)
        peer = np.zeros(samples, np.int16)
        helpers_cpp.build_blending_indices(peer, np.zeros(samples, np.int64), weights, len(weights), samples, False)
        ours = blend_table(weights, samples, 0)[0], BlendSplit(weights, 0).take(0, samples)[0]
        print(f"{name:28}{deviation(weights, peer):14.4f}{deviation(weights, ours[0]):9.4f}{deviation(weights, ours[1]):10.4f}")


def documents(count: int, repeat: int, sequence_length: int = 8192) -> None:
    """Documents into sequences, one pass."""
    from megatron.core.datasets import gpt_dataset, helpers

    lengths = np.random.default_rng(0).geometric(1 / 800, count).astype(np.int32)
    tokens = int(lengths.sum(dtype=np.int64))

    def peer() -> None:
        random = np.random.RandomState(0)
        order = gpt_dataset._build_document_index(np.arange(count, dtype=np.int32), 1, random, False)
        index = helpers.build_sample_idx(lengths, order, sequence_length, 1, tokens, True, True)
        gpt_dataset._build_shuffle_index(len(index) - 1, len(index) - 1, random)

    seconds = interleaved({"megatron-core": peer, "ours": lambda: native.DocumentOrder(lengths, 0)}, repeat)
    print(f"\nsample index, {count:,} documents, {tokens:,} tokens, sequences of {sequence_length}: megatron-core {seconds['megatron-core']:.3f} s, "
          f"ours {seconds['ours']:.3f} s: {seconds['megatron-core'] / seconds['ours']:.1f}x")  # fmt: skip
    order, starts = native.DocumentOrder(lengths, 0), np.random.default_rng(1).integers(0, tokens - sequence_length, 20_000).tolist()
    taken = interleaved({"spans": lambda: [order.spans(start, sequence_length + 1) for start in starts]}, repeat)["spans"]
    print(f"one sample's documents from Python, anywhere: {taken / len(starts) * 1e6:.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--documents", type=int, default=20_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    versions = f"megatron-core {importlib.metadata.version('megatron-core')}, numpy {np.__version__}, Python {platform.python_version()}"
    print(f"{versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for datasets in (8, 1024):
        blends(datasets, options.samples, options.repeat)
    deviations(min(options.samples, 100_000))
    documents(options.documents, options.repeat)


if __name__ == "__main__":
    main()
