"""Inputs of the fused loss and how its results are judged: against fp64, no worse than plain torch in the same dtype."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from megatron_snow.kernels import reference

IGNORED = -100


class Problem(NamedTuple):
    hidden: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor
    upstream: torch.Tensor
    """What the backward pass is given: [] , or [tokens] for ``none``."""


class Result(NamedTuple):
    loss: torch.Tensor
    d_hidden: torch.Tensor
    d_weight: torch.Tensor


def problem(tokens: int, hidden: int, vocabulary: int, dtype: torch.dtype, device: str = "cpu", reduction: str = "mean", spread: float = 0.3) -> Problem:
    """Random inputs, every seventh target ignored, ``spread`` the weights' standard deviation."""
    random = torch.Generator().manual_seed(tokens + vocabulary)
    targets = torch.randint(vocabulary, (tokens,), generator=random)
    targets[::7] = IGNORED
    return Problem(
        torch.randn(tokens, hidden, generator=random).to(device, dtype),
        (torch.randn(vocabulary, hidden, generator=random) * spread).to(device, dtype),
        targets.to(device),
        (torch.rand(tokens, generator=random) if reduction == "none" else torch.tensor(0.7)).to(device),
    )


def solve(function: Any, given: Problem, dtype: torch.dtype, **options: Any) -> Result:
    """Loss and gradients of ``function`` at ``given``, computed in ``dtype``."""
    hidden, weight = (tensor.to(dtype).detach().clone().requires_grad_() for tensor in (given.hidden, given.weight))
    loss = function(hidden, weight, given.targets, **options)
    loss.backward(given.upstream.to(loss.dtype))
    assert hidden.grad is not None and weight.grad is not None
    return Result(loss.detach().double(), hidden.grad.double(), weight.grad.double())


def unfused(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, reduction: str = "mean", label_smoothing: float = 0.0, z_loss: float = 0.0
) -> torch.Tensor:
    """What everybody writes: full logits, then the loss in fp32."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction=reduction, label_smoothing=label_smoothing, ignore_index=IGNORED)
    if not z_loss:
        return loss
    counted = targets != IGNORED
    squares = torch.where(counted, torch.logsumexp(logits, 1).square(), 0.0) * z_loss
    return loss + (squares if reduction == "none" else squares.sum() / (1 if reduction == "sum" else counted.sum()))


def errors(found: Result, truth: Result) -> Result:
    """Each part's largest error relative to the truth's largest entry."""
    return Result(*((mine - right).abs().max() / right.abs().max().clamp(min=1e-30) for mine, right in zip(found, truth, strict=True)))


def assert_no_worse(found: Result, given: Problem, dtype: torch.dtype, factor: float = 2.0, **options: Any) -> None:
    """error(ours, fp64) <= factor x error(unfused torch in the same dtype, fp64) + a rounding."""
    truth = solve(reference.linear_cross_entropy, given, torch.float64, **options)
    theirs = errors(solve(unfused, given, dtype, **options), truth)
    for name, mine, bound in zip(Result._fields, errors(found, truth), theirs, strict=True):
        assert mine <= factor * bound + torch.finfo(dtype).eps, f"{name}: {mine:.2e}, unfused {bound:.2e}"
