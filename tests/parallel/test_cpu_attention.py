from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from megatron_snow.parallel.cpu_attention import causal_attention


def inputs(length: int, keys: int, heads: int, kv_heads: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length + heads)
    shapes = ((length, 2, heads, 8), (keys, 2, kv_heads, 8), (keys, 2, kv_heads, 8), (length, 2, heads, 8))
    return [(3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_() for shape in shapes]


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The definition: all scores, masked, through softmax."""
    group = query.size(2) // key.size(2)
    key, value = key.repeat_interleave(group, 2), value.repeat_interleave(group, 2)
    scores = scale * torch.einsum("qbhd,kbhd->bhqk", query, key)
    places = torch.arange(key.size(0))
    scores = scores.masked_fill(places[None] > places[-query.size(0) :, None], -math.inf)
    return torch.einsum("bhqk,kbhd->qbhd", scores.softmax(-1), value)


def outputs(attend: object, tensors: list[torch.Tensor], scale: float) -> list[torch.Tensor]:
    """Output and gradients."""
    query, key, value, gradient = tensors
    out = attend(query, key, value, scale)  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), gradient)]


@pytest.mark.parametrize(("length", "keys"), [(1, 1), (5, 5), (200, 200), (64, 64), (3, 130), (70, 200)])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
def test_outputs_and_gradients_are_those_of_the_definition(length: int, keys: int, heads: int, kv_heads: int) -> None:
    tensors = inputs(length, keys, heads, kv_heads)
    for scale in (0.3, 8**-0.5):
        for found, expected in zip(outputs(causal_attention, tensors, scale), outputs(dense, tensors, scale), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_as_exact_as_torchs_own_kernel(dtype: torch.dtype) -> None:
    def flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        q, k, v = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True).permute(2, 0, 1, 3)

    tensors = inputs(300, 300, 4, 2, dtype)
    exact = outputs(dense, [tensor.double() for tensor in tensors], 0.3)
    for found, theirs, expected in zip(outputs(causal_attention, tensors, 0.3), outputs(flash, tensors, 0.3), exact, strict=True):
        assert found.dtype == dtype
        assert (found - expected).abs().mean() < 1.2 * (theirs - expected).abs().mean()


def test_large_scores_neither_overflow_nor_vanish() -> None:
    tensors = [(20 * tensor).detach().float().requires_grad_() for tensor in inputs(100, 100, 2, 1)]
    out, *gradients = outputs(causal_attention, tensors, 1.0)  # scores of tens of thousands, of either sign
    expected = dense(*(tensor.detach().double() for tensor in tensors[:3]), 1.0)
    assert (out - expected).abs().max() < 1e-3 * expected.abs().max()
    assert all(gradient.isfinite().all() for gradient in gradients)
