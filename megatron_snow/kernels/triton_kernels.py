# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The row-wise work as Triton kernels, one program a row; ``triton_rows`` launches them.

A row is swept twice: once for a running maximum and a sum of exponentials (kept per lane, so that a block costs one
cross-warp maximum and no sum), once backwards to overwrite the logits with their gradient; the second sweep meets most of
the row in the L2 cache, so that a logit costs one read and one write of memory. Under tensor parallelism the two sweeps
are two kernels, with 16 bytes a row exchanged between them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def loss_and_gradient_kernel(
    X, stride, TARGETS, SCALE, scale_stride, LOSSES, V, ignore_index, z_loss, smoothing, BLOCK: tl.constexpr, SMOOTH: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    y = tl.load(TARGETS + row)
    lanes = tl.arange(0, BLOCK)
    blocks = tl.cdiv(V, BLOCK)
    if y == ignore_index:
        for block in range(0, blocks):
            columns = block * BLOCK + lanes
            tl.store(X + columns, tl.zeros((BLOCK,), X.dtype.element_ty), mask=columns < V)
        tl.store(LOSSES + row, 0.0)
        return
    target = tl.load(X + y, mask=(y >= 0) & (y < V), other=float("nan")).to(tl.float32)  # a target outside must not pass unseen
    maximum = float("-inf")
    exponentials = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for block in range(0, blocks):
        columns = block * BLOCK + lanes
        x = tl.load(X + columns, mask=columns < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(maximum, tl.max(x, 0))
        exponentials = exponentials * tl.exp(maximum - higher) + tl.exp(x - higher)
        maximum = higher
        if SMOOTH:
            total += tl.where(columns < V, x, 0.0)
    lse = maximum + tl.log(tl.sum(exponentials, 0))
    loss = lse - (1.0 - smoothing) * target + z_loss * lse * lse
    if SMOOTH:
        loss -= smoothing / V * tl.sum(total, 0)
    tl.store(LOSSES + row, loss)
    scale = tl.load(SCALE + row * scale_stride)
    probability = (1.0 + 2.0 * z_loss * lse) * scale
    for reverse in range(0, blocks):
        columns = (blocks - 1 - reverse) * BLOCK + lanes
        x = tl.load(X + columns, mask=columns < V, other=float("-inf")).to(tl.float32)
        g = tl.exp(x - lse) * probability
        if SMOOTH:
            g -= smoothing / V * scale
        g = tl.where(columns == y, g - (1.0 - smoothing) * scale, g)
        tl.store(X + columns, g.to(X.dtype.element_ty), mask=columns < V)


@triton.jit
def statistics_kernel(X, stride, TARGETS, OUT, out_stride, V, first, BLOCK: tl.constexpr, SMOOTH: tl.constexpr):
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    y = tl.load(TARGETS + row) - first
    lanes = tl.arange(0, BLOCK)
    target = tl.load(X + y, mask=(y >= 0) & (y < V), other=0.0).to(tl.float32)
    maximum = float("-inf")
    exponentials = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for block in range(0, tl.cdiv(V, BLOCK)):
        columns = block * BLOCK + lanes
        x = tl.load(X + columns, mask=columns < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(maximum, tl.max(x, 0))
        exponentials = exponentials * tl.exp(maximum - higher) + tl.exp(x - higher)
        maximum = higher
        if SMOOTH:
            total += tl.where(columns < V, x, 0.0)
    tl.store(OUT + row, maximum)
    tl.store(OUT + out_stride + row, tl.sum(exponentials, 0))
    tl.store(OUT + 2 * out_stride + row, target)
    tl.store(OUT + 3 * out_stride + row, tl.sum(total, 0))


@triton.jit
def gradient_kernel(
    X, stride, TARGETS, STATISTICS, shard_stride, statistic_stride, SCALE, scale_stride, V, first, vocabulary, ignore_index, z_loss, smoothing,
    SHARDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    X += row.to(tl.int64) * stride
    target = tl.load(TARGETS + row)
    lanes = tl.arange(0, BLOCK)
    blocks = tl.cdiv(V, BLOCK)
    maximum = float("-inf")
    for shard in tl.static_range(SHARDS):
        maximum = tl.maximum(maximum, tl.load(STATISTICS + shard * shard_stride + row))
    exponentials = 0.0
    for shard in tl.static_range(SHARDS):
        own = tl.load(STATISTICS + shard * shard_stride + row)
        exponentials += tl.load(STATISTICS + shard * shard_stride + statistic_stride + row) * tl.exp(own - maximum)
    lse = maximum + tl.log(exponentials)
    scale = tl.load(SCALE + row * scale_stride)
    scale = tl.where(target == ignore_index, 0.0, scale)
    probability = (1.0 + 2.0 * z_loss * lse) * scale
    y = target - first
    for reverse in range(0, blocks):
        columns = (blocks - 1 - reverse) * BLOCK + lanes
        x = tl.load(X + columns, mask=columns < V, other=float("-inf")).to(tl.float32)
        g = tl.exp(x - lse) * probability - smoothing / vocabulary * scale
        g = tl.where(columns == y, g - (1.0 - smoothing) * scale, g)
        g = tl.where(target == ignore_index, 0.0, g)  # 0 x inf would be nan
        tl.store(X + columns, g.to(X.dtype.element_ty), mask=columns < V)
