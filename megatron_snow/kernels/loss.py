"""Linear layer and cross entropy in one: the loss head of a language model without its logits.

Tokens are worked off in chunks. A chunk's logits are one matrix product into a buffer that all chunks share; one pass over
it gives the losses and overwrites the logits with their gradient; two more products add the chunk's part of the gradients
of the hidden states and (in fp32) of the weight. So all of 6 x tokens x hidden x vocabulary is done in the forward pass and
nothing is computed twice. What the backward pass will be given must be known for that: it is for ``mean`` and ``sum`` up to
one factor, and for ``none`` where the caller says it (``expected_gradient``); otherwise ``none`` computes the logits twice.

Trade-off of the chunks: each reads and writes the whole fp32 weight gradient. With c tokens a chunk that traffic costs as
much as the arithmetic of about 300 tokens on an H100, so chunks are as long as the memory bound allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from megatron_snow.kernels.chunks import chunk_for
from megatron_snow.kernels.shards import GroupShards, Shards
from megatron_snow.kernels.terms import Reduction, Rows, Terms


@dataclass(frozen=True)
class _Plan:
    """All of a call that is no tensor of the graph."""

    terms: Terms
    rows: Rows
    shards: Shards | None
    sequence_parallel: bool
    reduction: Reduction
    chunk: int
    training: bool
    expected: torch.Tensor | None
    main_grad: torch.Tensor | None


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    group: dist.ProcessGroup | Shards | None = None,
    sequence_parallel: bool = False,
    expected_gradient: float | torch.Tensor | None = None,
    main_grad: torch.Tensor | None = None,
    chunk: int | None = None,
    rows: Rows | None = None,
) -> torch.Tensor:
    """cross entropy of ``hidden @ weight.T`` against ``targets``; fp32 (fp64 for fp64 input), [] or [tokens] for ``none``.

    Args:
        hidden: [tokens, h]; under ``sequence_parallel`` this process's [tokens / shards, h].
        weight: [V, h], this process's shard of the vocabulary: rank r holds entries r x V to (r + 1) x V.
        targets: int64 [tokens], entries of the whole vocabulary; rows with ``ignore_index`` count nothing, and ``mean`` is over
            the others (0 where there are none, unlike torch's nan). A target outside the vocabulary makes the loss nan.
        z_loss: adds z_loss x (log sum exp)^2 to each row.
        label_smoothing: torch's definition.
        group: the processes that share the vocabulary; targets are the same on all of them, and so is the loss.
        expected_gradient: what the backward pass is going to be given: a number, or [tokens] for ``none``. It is then
            checked (on the device, without waiting) instead of applied. One backward pass only.
        main_grad: fp32 [V, h]; the weight's gradient is added to it (in the forward pass where ``expected_gradient`` is given,
            else in the backward pass) and autograd is handed what Megatron's hooks want (``grad_added_to_main_grad``).
        chunk: tokens whose logits are held at once; chosen from the shapes where not given.
        rows: the row-wise kernels; chosen from the device where not given.
    """
    shards = group if group is None or not isinstance(group, dist.ProcessGroup) else GroupShards(group)
    if shards is not None and shards.size == 1:
        shards, sequence_parallel = None, False
    first, vocabulary = (shards.rank * weight.size(0), shards.size * weight.size(0)) if shards else (0, weight.size(0))
    tokens = targets.numel()
    training = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    plan = _Plan(
        Terms(ignore_index, z_loss, label_smoothing, first, vocabulary), rows or rows_for(hidden.device), shards, sequence_parallel, reduction,
        chunk or chunk_for(tokens, hidden.size(1), hidden.device.type, shards.size if shards else 1), training, _expected(expected_gradient, hidden), main_grad,
    )  # fmt: skip
    return _LinearCrossEntropy.apply(hidden.contiguous(), weight, targets.contiguous(), plan)  # type: ignore[no-untyped-call]


def rows_for(device: torch.device) -> Rows:
    """The row-wise kernels for a device."""
    if device.type == "cuda":
        from megatron_snow.kernels.triton_rows import TritonRows

        return TritonRows()
    from megatron_snow.kernels.torch_rows import TorchRows

    return TorchRows()


def _expected(gradient: float | torch.Tensor | None, hidden: torch.Tensor) -> torch.Tensor | None:
    if gradient is None or isinstance(gradient, torch.Tensor):
        return gradient
    return torch.full((1,), gradient, dtype=_working(hidden.dtype), device=hidden.device)


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, plan: _Plan) -> torch.Tensor:
        every = plan.shards.gather(hidden).flatten(0, 1) if plan.shards and plan.sequence_parallel else hidden
        working = _working(hidden.dtype)
        counted = targets != plan.terms.ignore_index
        share = counted.sum().clamp(min=1).to(working).reciprocal().reshape(1) if plan.reduction == "mean" else None
        scale = _row_scale(plan, share, working, hidden.device)
        ctx.plan, ctx.weight, ctx.backwards, ctx.buffer, ctx.lazy = plan, weight, 0, None, plan.training and scale is None
        if plan.training and scale is not None:
            losses, d_hidden, d_weight, buffer = _with_gradients(every, weight, targets, scale, plan)
            ctx.buffer = buffer if plan.main_grad is not None else None
            ctx.save_for_backward(d_hidden, None if plan.main_grad is not None and plan.expected is not None else d_weight)
        else:
            losses, statistics = _losses_only(every, weight, targets, plan)
            if ctx.lazy:
                ctx.save_for_backward(hidden, weight, targets, statistics)
        if plan.reduction == "none":
            return losses
        return losses.sum() if share is None else losses.sum() * share.squeeze(0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        plan, (gradient,) = ctx.plan, gradients
        if ctx.lazy:
            hidden, weight, targets, statistics = ctx.saved_tensors
            every = plan.shards.gather(hidden).flatten(0, 1) if plan.shards and plan.sequence_parallel else hidden
            d_hidden, d_weight = _gradients_later(every, weight, targets, statistics, gradient.contiguous(), plan)
            return d_hidden, _hand_over(ctx, None if plan.main_grad is not None else d_weight), None, None
        d_hidden, d_weight = ctx.saved_tensors
        if plan.expected is not None:
            _require_expected(ctx, gradient)
            return d_hidden, _hand_over(ctx, d_weight), None, None
        d_hidden = (d_hidden * gradient).to(d_hidden.dtype)
        if plan.main_grad is not None:
            plan.main_grad.addcmul_(d_weight, gradient)
            return d_hidden, _hand_over(ctx, None), None, None
        return d_hidden, _hand_over(ctx, torch.mul(d_weight, gradient, out=torch.empty_like(ctx.weight))), None, None


def _row_scale(plan: _Plan, share: torch.Tensor | None, working: torch.dtype, device: torch.device) -> torch.Tensor | None:
    """What each row's gradient is multiplied by, [1] or [tokens]; None where only the backward pass can tell."""
    if plan.expected is not None:
        return plan.expected if share is None else plan.expected * share
    if plan.reduction == "none":
        return None
    return share if share is not None else torch.ones(1, dtype=working, device=device)


def _require_expected(ctx: Any, gradient: torch.Tensor) -> None:
    """Stop (asynchronously on a GPU) where the backward pass is not what the forward pass was promised."""
    ctx.backwards += 1
    if ctx.backwards > 1:
        raise RuntimeError("expected_gradient allows one backward pass: its weight gradient is already where it belongs")
    # rounding of the caller's own divisions; a wrong factor is never that near
    torch._assert_async(torch.isclose(gradient, ctx.plan.expected, rtol=1e-4, atol=0.0).all(), "the backward pass was given another gradient than expected")


def _hand_over(ctx: Any, d_weight: torch.Tensor | None) -> torch.Tensor | None:
    """The weight's gradient in its dtype; where it is in main_grad already, what makes Megatron's hooks run."""
    weight, main_grad = ctx.weight, ctx.plan.main_grad
    if not ctx.needs_input_grad[1]:
        return None
    if main_grad is None:
        assert d_weight is not None
        return d_weight.to(weight.dtype)
    weight.grad_added_to_main_grad = True
    if getattr(weight, "zero_out_wgrad", False):  # tied to an embedding of the same stage, whose gradient runs the hooks
        return None
    room = ctx.buffer if ctx.buffer is not None else weight.new_empty(weight.numel())
    ctx.buffer = None
    return room[: weight.numel()].view(weight.shape)  # what is in it does not count


def _slices(plan: _Plan, tokens: int) -> list[slice]:
    return [slice(start, min(start + plan.chunk, tokens)) for start in range(0, tokens, plan.chunk)]


def _buffer(every: torch.Tensor, weight: torch.Tensor, plan: _Plan) -> torch.Tensor:
    """Room for a chunk's logits (rows aligned to 32 bytes on a GPU), at least that of the weight; flat."""
    return every.new_empty(max(min(plan.chunk, every.size(0)) * _aligned(weight), weight.numel() if plan.main_grad is not None else 0))


def _aligned(weight: torch.Tensor) -> int:
    return weight.size(0) if weight.device.type == "cpu" else -(-weight.size(0) // 16) * 16


def _logits(every: torch.Tensor, weight: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """every @ weight.T in the buffer."""
    rows = buffer[: every.size(0) * _aligned(weight)].view(every.size(0), -1)
    return torch.mm(every, weight.t(), out=rows[:, : weight.size(0)])


def _with_gradients(
    every: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, plan: _Plan
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses [tokens], and with ``scale`` on each row the gradients of hidden (this process's) and weight (fp32); the buffer."""
    tokens, working = targets.numel(), _working(every.dtype)
    losses = torch.empty(tokens, dtype=working, device=every.device)
    gathered = torch.empty(plan.shards.size if plan.shards else 0, 4, tokens, dtype=working, device=every.device)
    d_hidden = torch.empty_like(every)
    d_weight, fresh = _weight_total(weight, plan, plan.expected is not None)
    buffer = _buffer(every, weight, plan)
    # one factor for all rows goes into the products where reading it does not wait for a device
    apart = scale.numel() == 1 and scale.device.type == "cpu" and plan.rows.scales_apart
    common = scale.item() if apart else 1.0
    for part in _slices(plan, tokens):
        logits = _logits(every[part], weight, buffer)
        scales = None if apart else scale if scale.numel() == 1 else scale[part]
        if plan.shards is None:
            plan.rows.loss_and_gradient(logits, targets[part], scales, losses[part], plan.terms)
        else:
            own = torch.empty(4, part.stop - part.start, dtype=working, device=every.device)
            plan.rows.statistics(logits, targets[part], own, plan.terms)
            gathered[:, :, part] = plan.shards.gather(own)
            plan.rows.gradient(logits, targets[part], gathered[:, :, part], scales, plan.terms)
        _add_products(logits, every[part], weight, d_hidden[part], d_weight, fresh, common)
        fresh = False
    if plan.shards is not None:
        losses = plan.rows.losses(gathered, targets, plan.terms)
    return losses, _own_gradient(d_hidden, plan), d_weight, buffer


def _losses_only(every: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, plan: _Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [tokens] and all shards' statistics [shards, 4, tokens]."""
    own = torch.empty(4, targets.numel(), dtype=_working(every.dtype), device=every.device)
    buffer = _buffer(every, weight, plan)
    for part in _slices(plan, targets.numel()):
        logits = _logits(every[part], weight, buffer)
        plan.rows.statistics(logits, targets[part], own[:, part], plan.terms)
    statistics = plan.shards.gather(own) if plan.shards else own[None]
    return plan.rows.losses(statistics, targets, plan.terms), statistics


def _gradients_later(
    every: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor, plan: _Plan
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of hidden (this process's) and weight (fp32) from the logits, computed once more."""
    d_hidden = torch.empty_like(every)
    d_weight, fresh = _weight_total(weight, plan, True)
    buffer = _buffer(every, weight, plan)
    for part in _slices(plan, targets.numel()):
        logits = _logits(every[part], weight, buffer)
        plan.rows.gradient(logits, targets[part], statistics[:, :, part], scale[part], plan.terms)
        _add_products(logits, every[part], weight, d_hidden[part], d_weight, fresh)
        fresh = False
    return _own_gradient(d_hidden, plan), d_weight


def _weight_total(weight: torch.Tensor, plan: _Plan, direct: bool) -> tuple[torch.Tensor, bool]:
    """Where the weight's gradient is summed, and whether it starts from nothing."""
    if direct and plan.main_grad is not None:
        return plan.main_grad, False
    make = torch.zeros if weight.device.type == "cpu" else torch.empty  # fresh pages of the CPU's are zero anyway
    return make(weight.shape, dtype=_working(weight.dtype), device=weight.device), make is torch.empty


def _add_products(
    gradient: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, d_hidden: torch.Tensor, d_weight: torch.Tensor, fresh: bool, scale: float = 1.0
) -> None:
    """d_hidden = scale G W; d_weight += scale G^T H, summed in ``d_weight``'s precision (``fresh``: d_weight holds nothing yet)."""
    torch.mm(gradient, weight, out=d_hidden)
    if scale != 1.0:
        d_hidden.mul_(scale)
    transposed, beta = gradient.t(), 0.0 if fresh else 1.0
    if d_weight.dtype == hidden.dtype:
        torch.addmm(d_weight, transposed, hidden, beta=beta, alpha=scale, out=d_weight)
    elif hidden.device.type == "cuda":
        torch.addmm(d_weight, transposed, hidden, out_dtype=d_weight.dtype, beta=beta, alpha=scale, out=d_weight)
    else:
        assert not fresh
        d_weight.add_(transposed @ hidden, alpha=scale)  # the CPU has no product of bf16 into fp32: a chunk's part is rounded, their sum is not


def _own_gradient(d_hidden: torch.Tensor, plan: _Plan) -> torch.Tensor:
    """The sum of all shards' parts, of this process's tokens under sequence parallelism."""
    if plan.shards is None:
        return d_hidden
    return plan.shards.sum_own_rows(d_hidden) if plan.sequence_parallel else plan.shards.sum(d_hidden)
