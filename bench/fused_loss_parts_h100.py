#!/usr/bin/env python3
"""What the fused loss is made of on one GPU, for choosing chunk and block sizes: the parts of a chunk alone, the row kernel by
block and warps, the whole step by tokens a chunk.

    python bench/fused_loss_parts_h100.py [--vocabularies 32768,...] [--chunks 512,...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from fused_loss_h100 import HIDDEN, Case, milliseconds, ours

from megatron_snow.kernels import loss as fused
from megatron_snow.kernels.terms import Terms
from megatron_snow.kernels.triton_kernels import loss_and_gradient_kernel
from megatron_snow.kernels.triton_rows import TritonRows

SHAPES = ((2048, 8), (4096, 8), (4096, 16), (4096, 32), (8192, 16), (8192, 32), (16384, 32))


class Chunk:
    """A chunk's tensors and its parts."""

    def __init__(self, rows: int, weight: torch.Tensor, total: torch.Tensor) -> None:
        vocabulary = weight.size(0)
        self.weight, self.total = weight, total
        self.hidden = torch.randn(rows, HIDDEN, device="cuda").bfloat16()
        self.logits, self.out = torch.empty(rows, vocabulary, device="cuda", dtype=torch.bfloat16), torch.empty_like(self.hidden)
        self.targets, self.losses = torch.randint(vocabulary, (rows,), device="cuda"), torch.empty(rows, device="cuda")
        self.scale, self.terms = torch.ones(1, device="cuda"), Terms(-100, 0.0, 0.0, 0, vocabulary)
        self.kept = torch.mm(self.hidden, weight.t())

    def project(self) -> None:
        torch.mm(self.hidden, self.weight.t(), out=self.logits)

    def rows(self) -> None:
        TritonRows().loss_and_gradient(self.logits, self.targets, self.scale, self.losses, self.terms)

    def d_hidden(self) -> None:
        torch.mm(self.kept, self.weight, out=self.out)

    def d_hidden_split(self, parts: int) -> None:
        left, right = self.kept.view(self.kept.size(0), parts, -1).transpose(0, 1), self.weight.view(parts, -1, HIDDEN)
        torch.bmm(left, right, out_dtype=torch.float32).sum(0).bfloat16()

    def add_weight(self) -> None:
        torch.addmm(self.total, self.kept.t(), self.hidden, out_dtype=torch.float32, out=self.total)

    def set_weight(self) -> None:
        torch.mm(self.kept.t(), self.hidden, out_dtype=torch.float32, out=self.total)

    def whole(self) -> None:
        self.project()
        self.rows()
        fused._add_products(self.logits, self.hidden, self.weight, self.out, self.total, False)


def timed(run: Callable[[], object], repeat: int = 8) -> float:
    """Median milliseconds, nan (and the reason printed) where it does not run."""
    try:
        milliseconds(run, 2)
        return milliseconds(run, repeat)
    except Exception as error:
        print(f"  {str(error)[:200]}")
        return float("nan")


def parts(vocabulary: int, chunks: list[int]) -> None:
    """TFLOP/s of the products, GB/s (one read, one write a logit) of the row kernel."""
    weight = (torch.randn(vocabulary, HIDDEN, device="cuda") * 0.02).bfloat16()
    total = torch.zeros(vocabulary, HIDDEN, device="cuda")
    for rows in chunks:
        chunk, work = Chunk(rows, weight, total), 2.0 * rows * HIDDEN * vocabulary
        runs = (chunk.project, chunk.d_hidden, lambda: chunk.d_hidden_split(2), lambda: chunk.d_hidden_split(4), chunk.add_weight, chunk.set_weight)  # noqa: B023
        rates = "".join(f"{work / timed(run) / 1e9:8.0f}" for run in runs)
        print(f"{vocabulary:7}{rows:7}{rates}{4.0 * rows * vocabulary / timed(chunk.rows) / 1e6:8.0f}{3 * work / timed(chunk.whole) / 1e9:8.0f}", flush=True)


def shapes(vocabulary: int, rows: int) -> None:
    """GB/s of the row kernel by block and warps."""
    weight = torch.empty(vocabulary, HIDDEN, device="cuda", dtype=torch.bfloat16).normal_(0, 0.02)
    chunk, found = Chunk(rows, weight, weight), []
    for block, warps in SHAPES:

        def run(block: int = block, warps: int = warps) -> None:
            loss_and_gradient_kernel[(rows,)](
                chunk.kept, chunk.kept.stride(0), chunk.targets, chunk.scale, 0, chunk.losses, vocabulary, -100, 0.0, 0.0,
                BLOCK=block, EVEN=vocabulary % (2 * block) == 0, SMOOTH=False, num_warps=warps,
            )  # fmt: skip

        found.append(f"{block}/{warps} {4.0 * rows * vocabulary / timed(run) / 1e6:.0f}")
    print(f"{vocabulary:7}: " + ", ".join(found), flush=True)


def sweep(case: Case, chunks: list[int]) -> None:
    """The whole step by tokens a chunk."""
    found = []
    for chunk in chunks:
        milliseconds(step := ours(case, chunk), 2)
        found.append(f"{chunk}: {6.0 * case.tokens * HIDDEN * case.vocabulary / milliseconds(step, 5) / 1e9:.0f}")
        case.forget()
    print(f"{case.tokens} x {case.vocabulary}: " + ", ".join(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", default="32768,49152,131072")
    parser.add_argument("--chunks", default="1024,2048,2816,3328,4096")
    parser.add_argument("--tokens", default="8192")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: this benchmark needs a CUDA device, there is none here")
        return
    vocabularies, chunks = ([int(number) for number in text.split(",")] for text in (options.vocabularies, options.chunks))
    print(f"TFLOP/s of a chunk's products, GB/s of its row kernel, TFLOP/s of the whole chunk\n{'V':>7}{'chunk':>7}{'logits':>8}{'d hid':>8}"
          f"{'split2':>8}{'split4':>8}{'d w +=':>8}{'d w =':>8}{'rows':>8}{'whole':>8}")  # fmt: skip
    for vocabulary in vocabularies:
        parts(vocabulary, chunks)
    print("\nGB/s of the row kernel, 1024 rows, by block/warps")
    for vocabulary in vocabularies:
        shapes(vocabulary, 1024)
    print("\nTFLOP/s of the whole step by tokens a chunk")
    for tokens in options.tokens.split(","):
        for vocabulary in vocabularies:
            sweep(Case(int(tokens), vocabulary), chunks)


if __name__ == "__main__":
    main()
