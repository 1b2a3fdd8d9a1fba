# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""The row-wise work as Triton kernels, one program a row; ``triton_rows`` launches them.

A row is swept twice: once for its maximum and sum of exponentials, kept per lane so that no warp waits for another inside
the sweep; once backwards to overwrite the logits with their gradient. Few rows are in flight (``triton_rows`` chooses the
warps so), which lets the second sweep meet its row in the L2 cache: a logit then costs one read and one write of memory.
Under tensor parallelism the two sweeps are two kernels, with 16 bytes a row exchanged between them.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-3.0e38)  # below every logit, but finite: -inf minus itself is nan
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _load(X, columns, V, EVEN: tl.constexpr):
    """Logits in fp32, in units of ln 2 (the hardware's exponential is that of 2)."""
    x = tl.load(X + columns) if EVEN else tl.load(X + columns, mask=columns < V, other=LOWEST)
    return x.to(tl.float32) * LOG2E


@triton.jit
def _sweep(X, V, BLOCK: tl.constexpr, EVEN: tl.constexpr, SMOOTH: tl.constexpr):
    """(maximum, sum of exponentials relative to it, sum) of a row; the first and the last in units of ln 2."""
    lanes = tl.arange(0, BLOCK)
    highest = tl.full((BLOCK,), LOWEST, tl.float32)
    exponentials = tl.zeros((BLOCK,), tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, V, 2 * BLOCK):
        left, right = start + lanes, start + BLOCK + lanes
        a, b = _load(X, left, V, EVEN), _load(X, right, V, EVEN)
        higher = tl.maximum(highest, tl.maximum(a, b))
        exponentials = exponentials * tl.exp2(highest - higher) + tl.exp2(a - higher) + tl.exp2(b - higher)
        highest = higher
        if SMOOTH:
            sums += tl.where(left < V, a, 0.0) + tl.where(right < V, b, 0.0)
    maximum = tl.max(highest, 0)
    # lanes that saw nothing have counted exp(0), which vanishes here
    return maximum, tl.sum(exponentials * tl.exp2(highest - maximum), 0), tl.sum(sums, 0)


@triton.jit
def _overwrite(X, V, y, lse, probability, at_target, everywhere, BLOCK: tl.constexpr, EVEN: tl.constexpr, SMOOTH: tl.constexpr):
    """x <- probability x exp(x - lse) - everywhere, less ``at_target`` in column ``y``; ``lse`` in units of ln 2."""
    lanes = tl.arange(0, BLOCK)
    blocks = tl.cdiv(V, BLOCK)
    for reverse in range(0, blocks):
        columns = (blocks - 1 - reverse) * BLOCK + lanes
        g = tl.exp2(_load(X, columns, V, EVEN) - lse) * probability
        if SMOOTH:
            g -= everywhere
        g = tl.where(columns == y, g - at_target, g)
        if EVEN:
            tl.store(X + columns, g.to(X.dtype.element_ty))
        else:
            tl.store(X + columns, g.to(X.dtype.element_ty), mask=columns < V)


@triton.jit
def _clear(X, V, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        tl.store(X + start + lanes, tl.zeros((BLOCK,), X.dtype.element_ty), mask=start + lanes < V)


@triton.jit
def loss_and_gradient_kernel(
    X, stride, TARGETS, SCALE, scale_stride, LOSSES, V, ignore_index, z_loss, smoothing,
    BLOCK: tl.constexpr, EVEN: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    y = tl.load(TARGETS + row)
    if y == ignore_index:
        _clear(X, V, BLOCK)
        tl.store(LOSSES + row, 0.0)
        return
    target = tl.load(X + y, mask=(y >= 0) & (y < V), other=float("nan")).to(tl.float32)  # a target outside must not pass unseen
    maximum, exponentials, sums = _sweep(X, V, BLOCK, EVEN, SMOOTH)
    log2 = maximum + tl.log2(exponentials)
    lse = log2 * LN2
    loss = lse - (1.0 - smoothing) * target + z_loss * lse * lse
    if SMOOTH:
        loss -= smoothing / V * sums * LN2
    tl.store(LOSSES + row, loss)
    scale = tl.load(SCALE + row * scale_stride)
    _overwrite(X, V, y, log2, (1.0 + 2.0 * z_loss * lse) * scale, (1.0 - smoothing) * scale, smoothing / V * scale, BLOCK, EVEN, SMOOTH)


@triton.jit
def statistics_kernel(X, stride, TARGETS, OUT, out_stride, V, first, BLOCK: tl.constexpr, EVEN: tl.constexpr, SMOOTH: tl.constexpr):
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    y = tl.load(TARGETS + row) - first
    target = tl.load(X + y, mask=(y >= 0) & (y < V), other=0.0).to(tl.float32)
    maximum, exponentials, sums = _sweep(X, V, BLOCK, EVEN, SMOOTH)
    tl.store(OUT + row, maximum * LN2)
    tl.store(OUT + out_stride + row, exponentials)
    tl.store(OUT + 2 * out_stride + row, target)
    tl.store(OUT + 3 * out_stride + row, sums * LN2)


@triton.jit
def gradient_kernel(
    X, stride, TARGETS, STATISTICS, shard_stride, statistic_stride, SCALE, scale_stride, V, first, vocabulary, ignore_index, z_loss, smoothing,
    SHARDS: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    target = tl.load(TARGETS + row)
    if target == ignore_index:
        _clear(X, V, BLOCK)
        return
    maximum = LOWEST + 0.0
    for shard in tl.static_range(SHARDS):
        maximum = tl.maximum(maximum, tl.load(STATISTICS + shard * shard_stride + row))
    exponentials = 0.0
    for shard in tl.static_range(SHARDS):
        own = tl.load(STATISTICS + shard * shard_stride + row)
        exponentials += tl.load(STATISTICS + shard * shard_stride + statistic_stride + row) * tl.exp2((own - maximum) * LOG2E)
    log2 = maximum * LOG2E + tl.log2(exponentials)
    scale = tl.load(SCALE + row * scale_stride)
    probability = (1.0 + 2.0 * z_loss * log2 * LN2) * scale
    _overwrite(X, V, target - first, log2, probability, (1.0 - smoothing) * scale, smoothing / vocabulary * scale, BLOCK, EVEN, SMOOTH)
