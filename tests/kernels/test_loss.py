"""The fused loss on the CPU, against fp64 and plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_snow.kernels import reference
from megatron_snow.kernels.chunks import chunk_for
from megatron_snow.kernels.loss import linear_cross_entropy
from tests.kernels.problems import assert_no_worse, errors, problem, solve, unfused
from tests.training import ranks

OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"}, "z": {"z_loss": 1e-2}, "smoothed": {"label_smoothing": 0.1, "z_loss": 1e-3},
    "smoothed none": {"label_smoothing": 0.1, "reduction": "none"},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(37, 24, 131), (300, 16, 515), (1, 8, 3)])
def test_no_worse_than_full_logits(shape: tuple[int, int, int], dtype: torch.dtype, name: str) -> None:
    given = problem(*shape, dtype, reduction=OPTIONS[name].get("reduction", "mean"))
    given.targets[-1] = 1
    assert_no_worse(solve(linear_cross_entropy, given, dtype, chunk=16, **OPTIONS[name]), given, dtype, factor=3.0, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_reference_is_torchs_own(name: str) -> None:
    given = problem(50, 16, 101, torch.float64, reduction=OPTIONS[name].get("reduction", "mean"))
    pair = [solve(function, given, torch.float64, **OPTIONS[name]) for function in (reference.linear_cross_entropy, unfused)]
    assert all(error < 1e-5 for error in errors(*pair))  # ``unfused`` takes the logits to fp32
    assert all(error < 1e-12 for error in errors(solve(linear_cross_entropy, given, torch.float64, chunk=16, **OPTIONS[name]), pair[0]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_expected_gradient_goes_into_the_main_gradient_once(reduction: str) -> None:
    given = problem(100, 16, 77, torch.float32, reduction=reduction)
    truth = solve(reference.linear_cross_entropy, given, torch.float64, reduction=reduction)
    main_grad = torch.full((77, 16), 2.0)
    hidden, weight = given.hidden.clone().requires_grad_(), given.weight.clone().requires_grad_()
    loss = linear_cross_entropy(
        hidden, weight, given.targets, reduction=reduction, expected_gradient=given.upstream, main_grad=main_grad, chunk=32  # type: ignore[arg-type]
    )  # fmt: skip
    loss.backward(given.upstream, retain_graph=True)
    assert hidden.grad is not None and weight.grad is not None and weight.grad_added_to_main_grad  # type: ignore[attr-defined]
    assert torch.allclose(main_grad - 2.0, truth.d_weight.float(), atol=1e-5)
    assert torch.allclose(hidden.grad, truth.d_hidden.float(), atol=1e-6)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward(given.upstream)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_main_gradient_without_an_expectation(reduction: str) -> None:
    given = problem(100, 16, 77, torch.float32, reduction=reduction)
    truth, main_grad = solve(reference.linear_cross_entropy, given, torch.float64, reduction=reduction), torch.zeros(77, 16)
    solve(linear_cross_entropy, given, torch.float32, reduction=reduction, main_grad=main_grad, chunk=32)
    assert torch.allclose(main_grad, truth.d_weight.float(), atol=1e-5)


def test_another_gradient_than_expected_is_noticed() -> None:
    given = problem(20, 8, 31, torch.float32)
    loss = linear_cross_entropy(given.hidden.requires_grad_(), given.weight, given.targets, expected_gradient=1.0)
    with pytest.raises(RuntimeError, match="another gradient than expected"):
        loss.backward(torch.tensor(0.5))


def test_a_graph_may_be_walked_twice() -> None:
    given = problem(20, 8, 31, torch.float32)
    hidden = given.hidden.requires_grad_()
    loss = linear_cross_entropy(hidden, given.weight, given.targets)
    loss.backward(retain_graph=True)
    assert hidden.grad is not None
    once = hidden.grad.clone()
    loss.backward()
    assert torch.equal(hidden.grad, 2 * once)


def test_bf16_weight_gradient_does_not_drift_with_the_chunks() -> None:
    given = problem(4096, 8, 16, torch.bfloat16)
    truth = solve(reference.linear_cross_entropy, given, torch.float64)
    main_grad = torch.zeros(16, 8)
    solve(linear_cross_entropy, given, torch.bfloat16, chunk=16, main_grad=main_grad)
    fused = (main_grad.double() - truth.d_weight).norm() / truth.d_weight.norm()
    hidden, weight = given.hidden.requires_grad_(), given.weight.requires_grad_()
    for start in range(0, 4096, 16):  # what autograd does when chunks are summed in the weight's dtype
        part = slice(start, start + 16)
        (unfused(hidden[part], weight, given.targets[part], "sum") * 0.7 / (given.targets >= 0).sum()).backward()
    assert weight.grad is not None
    naive = (weight.grad.double() - truth.d_weight).norm() / truth.d_weight.norm()
    assert fused < 4e-3 and fused < naive / 3


def test_ignored_rows_get_nothing_and_nothing_counted_is_zero() -> None:
    given = problem(40, 8, 31, torch.float32)
    found = solve(linear_cross_entropy, given, torch.float32, z_loss=1e-2, label_smoothing=0.1, chunk=16)
    assert (found.d_hidden[::7] == 0).all() and (found.d_hidden[1] != 0).any()
    nothing = given._replace(targets=torch.full_like(given.targets, -100))
    assert all((part == 0).all() for part in solve(linear_cross_entropy, nothing, torch.float32))
    spoilt = given._replace(hidden=given.hidden.clone())
    spoilt.hidden[0] = 1e30  # an ignored row whose logits overflow
    assert all(part.isfinite().all() for part in solve(linear_cross_entropy, spoilt, torch.float32))


def test_huge_logits_stay_finite_and_a_target_outside_is_nan() -> None:
    given = problem(40, 8, 31, torch.float32, spread=1e4)
    assert all(part.isfinite().all() for part in solve(linear_cross_entropy, given, torch.float32))
    given.targets[3] = 31
    assert linear_cross_entropy(given.hidden, given.weight, given.targets).isnan()


def test_non_contiguous_input_is_read_right_and_left_alone() -> None:
    given = problem(48, 16, 31, torch.float32)
    strided = given._replace(hidden=given.hidden.t().contiguous().t(), targets=torch.stack([given.targets] * 2, 1)[:, 0])
    assert not strided.hidden.is_contiguous() and not strided.targets.is_contiguous()
    before = strided.hidden.clone(), strided.weight.clone()
    assert all(error < 1e-6 for error in errors(*(solve(linear_cross_entropy, one, torch.float32, chunk=16) for one in (given, strided))))
    assert torch.equal(strided.hidden, before[0]) and torch.equal(strided.weight, before[1])


def test_chunks_cover_the_tokens_within_their_bound() -> None:
    assert [chunk_for(tokens, 2048, "cuda") for tokens in (4096, 8192, 16384)] == [2048, 2816, 3328]
    assert chunk_for(8192, 2048, "cuda", 4) == 4096
    assert all(256 <= chunk_for(tokens, 64, "cpu") <= max(256, tokens // 6 + 128) for tokens in range(256, 9000, 97))


def shard(rank: int, world: int, rendezvous: str, sequence_parallel: bool, expected: bool) -> tuple[torch.Tensor, ...]:
    """This rank's loss, its rows of the hidden gradient and its shard's gradient."""
    import torch.distributed as dist

    dist.init_process_group("gloo", rank=rank, world_size=world, init_method=rendezvous)
    given = problem(64, 16, 4 * 33, torch.float32, reduction="none")
    own = given.hidden.chunk(world)[rank] if sequence_parallel else given.hidden
    hidden, weight = own.clone().requires_grad_(), given.weight.chunk(world)[rank].clone().requires_grad_()
    loss = linear_cross_entropy(
        hidden, weight, given.targets, reduction="none", z_loss=1e-3, label_smoothing=0.1, group=dist.group.WORLD, sequence_parallel=sequence_parallel,
        expected_gradient=given.upstream if expected else None, chunk=24,
    )  # fmt: skip
    loss.backward(given.upstream)
    assert hidden.grad is not None and weight.grad is not None
    return loss.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize(("world", "sequence_parallel", "expected"), [(2, False, True), (2, True, False), (4, True, True)])
def test_shards_agree_with_the_whole(world: int, sequence_parallel: bool, expected: bool) -> None:
    options = {"reduction": "none", "z_loss": 1e-3, "label_smoothing": 0.1}
    truth = solve(reference.linear_cross_entropy, problem(64, 16, 4 * 33, torch.float32, reduction="none"), torch.float64, **options)
    found = ranks.run(shard, world, sequence_parallel, expected)
    for loss, d_hidden, _ in found:
        assert torch.allclose(loss.double(), truth.loss, rtol=1e-5)
        if not sequence_parallel:
            assert torch.allclose(d_hidden.double(), truth.d_hidden, atol=1e-6)
    if sequence_parallel:
        assert torch.allclose(torch.cat([d_hidden for _, d_hidden, _ in found]).double(), truth.d_hidden, atol=1e-6)
    assert torch.allclose(torch.cat([d_weight for *_, d_weight in found]).double(), truth.d_weight, atol=1e-6)
