"""The fused loss on a GPU: numerics at ragged shapes, no synchronisation, CUDA graphs, and what went wrong in other implementations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from megatron_snow.kernels.loss import linear_cross_entropy
from tests.kernels.problems import Problem, Result, assert_no_worse, errors, problem, solve

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: make gpu")]

OPTIONS = {
    "mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"}, "z": {"z_loss": 1e-3}, "smoothed": {"label_smoothing": 0.1, "z_loss": 1e-4},
}  # fmt: skip


@contextmanager
def no_waiting() -> Iterator[None]:
    """Any synchronisation with the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


CASES = [((1000, 320, 5003), torch.bfloat16, name) for name in OPTIONS] + [
    ((257, 64, 70001), torch.bfloat16, "mean"), ((64, 128, 333), torch.float32, "smoothed"), ((1000, 64, 16384), torch.float32, "none"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype", "name"), CASES)
def test_no_worse_than_full_logits(shape: tuple[int, int, int], dtype: torch.dtype, name: str) -> None:
    options = OPTIONS[name]
    given = problem(*shape, dtype, "cuda", options.get("reduction", "mean"), spread=0.1)
    assert_no_worse(solve(linear_cross_entropy, given, dtype, chunk=256, **options), given, dtype, **options)


def test_a_large_vocabulary_crosses_no_32_bit_offset() -> None:
    rows, vocabulary = 4200, 524_288  # 2.2e9 logits in one chunk
    given = problem(rows, 64, vocabulary, torch.bfloat16, "cuda", spread=0.1)
    whole = solve(linear_cross_entropy, given, torch.bfloat16, chunk=rows)
    apart = solve(linear_cross_entropy, given, torch.bfloat16, chunk=512)
    assert all(error < 1e-2 for error in errors(whole, apart))


def test_weight_gradient_of_many_chunks_is_summed_in_fp32() -> None:
    given = problem(8192, 64, 1024, torch.bfloat16, "cuda")
    main_grad = torch.zeros(1024, 64, device="cuda")
    solve(linear_cross_entropy, given, torch.bfloat16, chunk=64, main_grad=main_grad)
    few = torch.zeros_like(main_grad)
    solve(linear_cross_entropy, given, torch.bfloat16, chunk=8192, main_grad=few)
    assert (main_grad - few).abs().max() < 1e-3 * few.abs().max()  # a running sum in bf16 is off by about 1e-2


def step(given: Problem, main_grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    loss = linear_cross_entropy(hidden, weight, given.targets, expected_gradient=0.7, main_grad=main_grad, chunk=128)
    loss.backward(given.upstream)
    return loss


def test_nothing_waits_for_the_device() -> None:
    for reduction in ("mean", "none"):
        given = problem(512, 128, 5003, torch.bfloat16, "cuda", reduction)
        hidden, weight = given.hidden.clone().requires_grad_(), given.weight.clone().requires_grad_()
        for _ in range(2):  # the first run compiles
            with no_waiting():
                linear_cross_entropy(hidden, weight, given.targets, reduction=reduction, chunk=128).backward(given.upstream)  # type: ignore[arg-type]
    given, main_grad = problem(512, 128, 5003, torch.bfloat16, "cuda"), torch.zeros(5003, 128, device="cuda")
    hidden, weight = given.hidden.clone().requires_grad_(), given.weight.clone().requires_grad_()
    with no_waiting():
        step(given, main_grad, hidden, weight)


def test_captured_in_a_cuda_graph() -> None:
    given, main_grad = problem(512, 128, 5003, torch.bfloat16, "cuda"), torch.zeros(5003, 128, device="cuda")
    hidden, weight = given.hidden.clone().requires_grad_(), given.weight.clone().requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step(given, main_grad, hidden, weight)
            hidden.grad = weight.grad = None
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(given, main_grad, hidden, weight)
    other = problem(512, 128, 5004, torch.bfloat16, "cuda")  # other numbers in the same buffers
    with torch.no_grad():
        hidden.copy_(other.hidden)
        given.targets.copy_(other.targets.clamp(max=5002))
    main_grad.zero_()
    graph.replay()
    again = torch.zeros_like(main_grad)
    fresh = hidden.detach().clone().requires_grad_()
    expected = step(given, again, fresh, weight)
    assert hidden.grad is not None and fresh.grad is not None
    assert torch.equal(loss, expected) and torch.equal(main_grad, again) and torch.equal(hidden.grad, fresh.grad)


@pytest.mark.parametrize("size", [2, 4])
def test_shards_agree_with_the_whole(size: int) -> None:
    """Every shard in turn, given the others' true statistics, as a group would exchange them."""
    from megatron_snow.kernels.terms import Terms
    from megatron_snow.kernels.triton_rows import TritonRows

    rows, options = TritonRows(), {"label_smoothing": 0.1, "z_loss": 1e-3}
    given = problem(300, 64, 4 * 1001, torch.float32, "cuda")
    logits, scale = given.hidden @ given.weight.t(), torch.full((1,), 0.5, device="cuda")
    whole, losses = logits.clone(), torch.empty(300, device="cuda")
    rows.loss_and_gradient(whole, given.targets, scale, losses, Terms(-100, 1e-3, 0.1, 0, logits.size(1)))
    width = logits.size(1) // size
    terms = [Terms(-100, options["z_loss"], options["label_smoothing"], shard * width, logits.size(1)) for shard in range(size)]
    statistics = torch.empty(size, 4, 300, device="cuda")
    parts = [logits[:, shard * width : (shard + 1) * width].clone() for shard in range(size)]
    for part, own, term in zip(parts, statistics, terms, strict=True):
        rows.statistics(part, given.targets, own, term)
    assert torch.allclose(rows.losses(statistics, given.targets, terms[0]), losses, rtol=1e-5)
    for part, term in zip(parts, terms, strict=True):
        rows.gradient(part, given.targets, statistics, scale, term)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)


def test_huge_logits_and_nothing_counted() -> None:
    given = problem(64, 32, 999, torch.bfloat16, "cuda", spread=300.0)
    found = solve(linear_cross_entropy, given, torch.bfloat16)
    assert all(bool(part.isfinite().all()) for part in found)
    nothing = given._replace(targets=torch.full_like(given.targets, -100))
    found = solve(linear_cross_entropy, nothing, torch.bfloat16)
    assert all(bool((part == 0).all()) for part in found)


def test_non_contiguous_input_is_read_right_and_left_alone() -> None:
    given = problem(128, 64, 999, torch.bfloat16, "cuda")
    strided = given._replace(hidden=given.hidden.t().contiguous().t(), targets=torch.stack([given.targets] * 2, 1)[:, 0])
    assert not strided.hidden.is_contiguous() and not strided.targets.is_contiguous()
    before = strided.hidden.clone(), strided.weight.clone()
    pair: list[Result] = [solve(linear_cross_entropy, one, torch.bfloat16) for one in (given, strided)]
    assert all(error < 1e-3 for error in errors(*pair))
    assert torch.equal(strided.hidden, before[0]) and torch.equal(strided.weight, before[1])
