#!/usr/bin/env python3
"""The fused loss beside its peers on one GPU: bf16, forward and backward, medians of interleaved runs by CUDA events.

    python bench/fused_loss_h100.py [--cases 8192x49152,...] [--only ours,mcore,...] [--rounds 10]

Peers: megatron-core's native fused path (its linear layer and its fused vocabulary-parallel cross entropy), torch.compile of
linear and cross entropy on full logits, Liger's Triton kernel (its weight gradient summed in fp32, as ours is). A peer that
cannot be imported is named and left out. ``tp2`` and ``tp4`` are ours on one of 2 or 4 vocabulary shards, the exchange replaced
by a copy on the card: what a GPU of the group computes, without the network.

TFLOP/s counts 6 x tokens x hidden x vocabulary; memory is the peak beyond inputs and gradients. ``ours`` adds the weight's
gradient to Megatron's fp32 main gradient, the peers leave it in bf16 for Megatron's hook to add: ``+ hook`` is with that.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F

from megatron_snow.kernels import loss as fused
from megatron_snow.kernels import reference

HIDDEN = 2048
CASES = "4096x49152,8192x32768,8192x49152,8192x65536,8192x131072,16384x131072"
VERL = {2: 372.0, 4: 329.0}  # TFLOP/s a GPU, as published for verl's Triton kernel
Step = Callable[[], torch.Tensor]


class Case:
    """Inputs of one size: unit-variance hidden states, weights of 0.02, one target in sixteen ignored."""

    def __init__(self, tokens: int, vocabulary: int) -> None:
        random = torch.Generator("cuda").manual_seed(tokens + vocabulary)
        self.tokens, self.vocabulary = tokens, vocabulary
        self.hidden = torch.randn(tokens, HIDDEN, device="cuda", dtype=torch.bfloat16, generator=random).requires_grad_()
        self.weight = (torch.randn(vocabulary, HIDDEN, device="cuda", generator=random) * 0.02).bfloat16().requires_grad_()
        self.targets = torch.randint(vocabulary, (tokens,), device="cuda", generator=random)
        self.targets[::16] = -100
        self.main_grad = torch.zeros(vocabulary, HIDDEN, device="cuda")

    def forget(self) -> None:
        self.hidden.grad = self.weight.grad = None


def ours(case: Case, chunk: int | None = None) -> Step:
    def step() -> torch.Tensor:
        loss = fused.linear_cross_entropy(case.hidden, case.weight, case.targets, expected_gradient=1.0, main_grad=case.main_grad, chunk=chunk)
        loss.backward()
        return loss

    return step


def plain(case: Case) -> Step:
    """Ours without main_grad: the gradient comes back in bf16, as the peers' does."""

    def step() -> torch.Tensor:
        loss = fused.linear_cross_entropy(case.hidden, case.weight, case.targets)
        loss.backward()
        return loss

    return step


class EmulatedShards:
    """Shard 0 of ``size``; the others' answers are copies of its own."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        return own.expand(self.size, *own.shape).contiguous()

    def sum(self, partial: torch.Tensor) -> torch.Tensor:
        return partial

    def sum_own_rows(self, partial: torch.Tensor) -> torch.Tensor:
        return partial[: partial.size(0) // self.size]


def shard(case: Case, size: int) -> Step:
    shards, own = EmulatedShards(size), case.vocabulary // size
    weight, main_grad = case.weight.detach()[:own].requires_grad_(), case.main_grad[:own]

    def step() -> torch.Tensor:
        loss = fused.linear_cross_entropy(case.hidden, weight, case.targets, group=shards, expected_gradient=1.0, main_grad=main_grad)
        loss.backward()
        weight.grad = None
        return loss

    return step


def mcore(case: Case) -> Step:
    from megatron.core.fusions.fused_cross_entropy import fused_vocab_parallel_cross_entropy
    from megatron.core.tensor_parallel.layers import linear_with_grad_accumulation_and_async_allreduce

    group = torch.distributed.group.WORLD
    counted = (case.targets >= 0).float()
    share, targets = counted / counted.sum(), case.targets.clamp(min=0)[:, None]

    def step() -> torch.Tensor:
        logits = linear_with_grad_accumulation_and_async_allreduce(
            case.hidden[:, None], case.weight, None, gradient_accumulation_fusion=False, allreduce_dgrad=False, sequence_parallel=False, tp_group=group
        )
        loss = (fused_vocab_parallel_cross_entropy(logits, targets, group)[:, 0] * share).sum()
        loss.backward()
        return loss

    return step


def compiled(case: Case) -> Step:
    @torch.compile(dynamic=False)
    def loss_of(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(F.linear(hidden, weight).float(), targets)

    def step() -> torch.Tensor:
        loss = loss_of(case.hidden, case.weight, case.targets)
        loss.backward()
        return loss

    return step


def liger(case: Case) -> Step:
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as Liger

    def step() -> torch.Tensor:
        # (input, weight, target, bias, class weights, ignore, z-loss, smoothing, reduction, softcap, return z-loss, accumulation)
        result = Liger.apply(case.hidden, case.weight, case.targets, None, None, -100, 0.0, 0.0, "mean", None, False, torch.float32)
        loss = result[0] if isinstance(result, tuple) else result
        loss.backward()
        return loss

    return step


CONTESTANTS: dict[str, Callable[[Case], Step]] = {
    "ours": ours, "ours plain": plain, "mcore": mcore, "compile": compiled, "liger": liger,
    "tp2": lambda case: shard(case, 2), "tp4": lambda case: shard(case, 4),
}  # fmt: skip


def milliseconds(run: Callable[[], object], repeat: int) -> float:
    """Median of ``repeat`` runs."""
    times = []
    for _ in range(repeat):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return median(times)


def extra_memory(case: Case, step: Step) -> float:
    """Peak bytes beyond what was there before and the two gradients in bf16 that autograd hands over."""
    case.forget()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before - 2 * (case.hidden.numel() + case.weight.numel()))


def prepare(case: Case, names: list[str]) -> dict[str, Step]:
    """The contestants that run here, warmed up."""
    steps = {}
    for name in names:
        began = time.monotonic()
        try:
            step = CONTESTANTS[name](case)
            for _ in range(3):
                step()
                case.forget()
            torch.cuda.synchronize()
        except Exception as error:  # a peer's own trouble must not hide the others' numbers
            print(f"  {name} left out: {type(error).__name__}: {str(error)[:300]}")
            case.forget()
            continue
        steps[name] = step
        if (took := time.monotonic() - began) > 5:
            print(f"  {name}: {took:.0f} s to warm up")
    return steps


def compare(case: Case, names: list[str], rounds: int) -> None:
    steps = prepare(case, names)
    memory = {name: extra_memory(case, step) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            case.forget()
            times[name].append(milliseconds(step, 1))
    case.forget()
    work, logits = 6.0 * case.tokens * HIDDEN * case.vocabulary, 2.0 * case.tokens * case.vocabulary
    base = median(times["ours"]) if "ours" in times else 0.0
    gradient = torch.zeros_like(case.weight)
    hook = milliseconds(lambda: case.main_grad.add_(gradient), 5)
    print(f"\n{case.tokens} tokens x {case.vocabulary} (bf16 logits {logits / 2**20:.0f} MiB)")
    print(f"{'':12}{'ms':>9}{'TFLOP/s':>9}{'ours/it':>9}{'+ hook':>9}{'ours/it':>9}{'MiB':>8}{'of logits':>10}")
    for name, taken in times.items():
        ms, part = median(taken), int(name[2:]) if name.startswith("tp") else 1
        rate = work / part / ms / 1e9
        note = f"   {rate / VERL[part]:.2f}x verl's published" if part > 1 else ""
        summed = ms if name == "ours" or part > 1 else ms + hook
        print(f"{name:12}{ms:9.3f}{rate:9.0f}{base / ms:9.2f}{summed:9.3f}{base / summed:9.2f}{memory[name] / 2**20:8.0f}{memory[name] / logits:10.2f}{note}")


def accuracy(case: Case, names: list[str]) -> None:
    """Each contestant's error against fp64: of the loss, and of the gradients relative to their norm."""
    hidden, weight = (tensor.detach().double().requires_grad_() for tensor in (case.hidden, case.weight))
    truth = reference.linear_cross_entropy(hidden, weight, case.targets)
    truth.backward()
    assert hidden.grad is not None and weight.grad is not None
    print(f"\nerror against fp64, {case.tokens} tokens x {case.vocabulary}\n{'':12}{'loss':>11}{'d hidden':>11}{'d weight':>11}")
    for name, step in prepare(case, [name for name in names if not name.startswith("tp")]).items():
        case.main_grad.zero_()
        loss = step()
        d_weight = case.main_grad if name == "ours" else case.weight.grad
        assert case.hidden.grad is not None and d_weight is not None
        of_hidden = ((case.hidden.grad.double() - hidden.grad).norm() / hidden.grad.norm()).item()
        of_weight = ((d_weight.double() - weight.grad).norm() / weight.grad.norm()).item()
        print(f"{name:12}{abs(loss.item() - truth.item()):11.2e}{of_hidden:11.2e}{of_weight:11.2e}")
        case.forget()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES, help="TOKENSxVOCABULARY,...")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: this benchmark needs a CUDA device, there is none here")
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    torch.distributed.init_process_group("nccl", rank=0, world_size=1, device_id=torch.device("cuda", 0))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, hidden {HIDDEN}", flush=True)
    names = options.only.split(",")
    sizes = [tuple(int(number) for number in case.split("x")) for case in options.cases.split(",")]
    accuracy(Case(4096, 32768), names)
    for tokens, vocabulary in sizes:
        case = Case(tokens, vocabulary)
        compare(case, names, options.rounds)
        del case
        torch.compiler.reset()
        torch.cuda.empty_cache()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
