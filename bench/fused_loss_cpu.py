#!/usr/bin/env python3
"""The fused loss beside F.linear and F.cross_entropy on the CPU: forward and backward, interleaved, medians; peak memory.

    python bench/fused_loss_cpu.py [--tokens 4096] [--vocabulary 49152] [--hidden 512] [--repeat 3]

Memory is the rise of the resident set's peak over inputs and gradients, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path
from statistics import median
from typing import Any

DTYPES = ("float32", "bfloat16")


def problem(options: argparse.Namespace, dtype: str) -> tuple[Any, Any, Any]:
    import torch

    random, kind = torch.Generator().manual_seed(0), getattr(torch, dtype)
    hidden = torch.randn(options.tokens, options.hidden, generator=random).to(kind).requires_grad_()
    weight = (torch.randn(options.vocabulary, options.hidden, generator=random) * 0.02).to(kind).requires_grad_()
    return hidden, weight, torch.randint(options.vocabulary, (options.tokens,), generator=random)


def step(name: str, hidden: Any, weight: Any, targets: Any) -> None:
    import torch.nn.functional as F

    from megatron_snow.kernels.loss import linear_cross_entropy

    loss = linear_cross_entropy(hidden, weight, targets) if name == "ours" else F.cross_entropy(F.linear(hidden, weight), targets)
    loss.backward()


def peak(name: str, options: argparse.Namespace, dtype: str) -> float:
    """MiB beyond inputs and gradients; runs in a fresh process."""
    import torch

    hidden, weight, targets = problem(options, dtype)
    small = argparse.Namespace(tokens=64, vocabulary=64, hidden=64)
    step(name, *problem(small, dtype))  # code is loaded
    gradients = (hidden.numel() + weight.numel()) * torch.empty(0, dtype=hidden.dtype).element_size()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    step(name, hidden, weight, targets)
    return (resident("VmHWM") - before - gradients) / 2**20


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for dtype in DTYPES:
        memory = {}
        for name in ("ours", "torch"):
            with context.Pool(1) as pool:
                memory[name] = pool.apply(peak, (name, options, dtype))
        inputs, taken = problem(options, dtype), {"ours": [], "torch": []}  # type: ignore[var-annotated]
        for turn in range(options.repeat + 1):
            for name, times in taken.items():
                inputs[0].grad = inputs[1].grad = None
                began = time.perf_counter()
                step(name, *inputs)
                times.extend([time.perf_counter() - began] if turn else [])
        ours, theirs = median(taken["ours"]), median(taken["torch"])
        print(f"{dtype}: ours {ours:.2f} s, torch {theirs:.2f} s, ratio {ours / theirs:.2f}; extra peak ours {memory['ours']:.0f} MiB, "
              f"torch {memory['torch']:.0f} MiB, ratio {memory['ours'] / memory['torch']:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
