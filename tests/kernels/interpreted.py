"""Triton's kernels in its interpreter, against fp64: run with TRITON_INTERPRET=1, as the decorators choose when they are imported."""

from __future__ import annotations

import sys

import torch

from megatron_snow.kernels import reference
from megatron_snow.kernels.loss import linear_cross_entropy
from megatron_snow.kernels.terms import Terms
from megatron_snow.kernels.triton_rows import TritonRows
from tests.kernels.problems import Problem, assert_no_worse, problem, solve

CASES = {
    "mean": ((37, 24, 131), torch.float32, {}), "even": ((16, 8, 64), torch.float32, {"reduction": "sum"}),
    "bf16": ((37, 24, 515), torch.bfloat16, {"z_loss": 1e-3}), "none": ((20, 8, 131), torch.bfloat16, {"reduction": "none"}),
    "smoothed": ((20, 8, 131), torch.float32, {"label_smoothing": 0.1, "z_loss": 1e-2}), "blocks": ((3, 4, 40_000), torch.float32, {}),
}  # fmt: skip


def shards() -> None:
    """Two shards' statistics and gradients make the whole's."""
    rows, given, scale = TritonRows(), problem(12, 8, 2 * 75, torch.float32), torch.full((1,), 0.5)
    whole, losses = given.hidden @ given.weight.t(), torch.empty(12)
    parts = [part.clone() for part in whole.chunk(2, 1)]
    rows.loss_and_gradient(whole, given.targets, scale, losses, Terms(-100, 1e-3, 0.1, 0, 150))
    terms, statistics = [Terms(-100, 1e-3, 0.1, 75 * shard, 150) for shard in range(2)], torch.empty(2, 4, 12)
    for part, own, term in zip(parts, statistics, terms, strict=True):
        rows.statistics(part, given.targets, own, term)
    assert torch.allclose(rows.losses(statistics, given.targets, terms[0]), losses, rtol=1e-5)
    for part, term in zip(parts, terms, strict=True):
        rows.gradient(part, given.targets, statistics, scale, term)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)


def nothing_beside_the_logits_is_touched() -> None:
    """The interpreter lets a kernel read and write anywhere: the logits lie among not-a-numbers, which must stay and must not spread."""
    rows, given = TritonRows(), problem(5, 8, 131, torch.float32)
    among = torch.full((7, 200), torch.nan)
    among[1:6, 16:147] = given.hidden @ given.weight.t()
    losses = torch.empty(5)
    rows.loss_and_gradient(among[1:6, 16:147], given.targets, torch.ones(1), losses, Terms(-100, 0.0, 0.0, 0, 131))
    assert losses.isfinite().all() and among[1:6, 16:147].isfinite().all()
    assert among[:, :16].isnan().all() and among[:, 147:].isnan().all() and among[[0, 6]].isnan().all()


def extremes() -> None:
    """Huge logits, a target outside, everything ignored."""
    given = problem(9, 8, 131, torch.float32, spread=1e4)
    truth = solve(reference.linear_cross_entropy, given, torch.float64)
    assert torch.allclose(solve(linear_cross_entropy, given, torch.float32, rows=TritonRows()).loss, truth.loss, rtol=1e-5)
    outside = given._replace(targets=given.targets.clone())
    outside.targets[1] = 131
    assert solve(linear_cross_entropy, outside, torch.float32, rows=TritonRows()).loss.isnan()
    nothing: Problem = given._replace(targets=torch.full_like(given.targets, -100))
    assert all((part == 0).all() for part in solve(linear_cross_entropy, nothing, torch.float32, rows=TritonRows()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (shape, dtype, options) in CASES.items():
        given = problem(*shape, dtype, reduction=options.get("reduction", "mean"))
        assert_no_worse(solve(linear_cross_entropy, given, dtype, chunk=16, rows=TritonRows(), **options), given, dtype, factor=3.0, **options)
        print(name)
    shards()
    nothing_beside_the_logits_is_touched()
    extremes()
    print("all agree")
    sys.exit(0)
