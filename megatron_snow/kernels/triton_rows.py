"""The row-wise work between the matrix products by Triton's kernels (see ``terms.Rows``)."""

from __future__ import annotations

from typing import Any

import torch
import triton

from megatron_snow.kernels.terms import Terms, losses_of
from megatron_snow.kernels.triton_kernels import gradient_kernel, loss_and_gradient_kernel, statistics_kernel

CACHE = 36 << 20  # bytes; ours: what of an H100's 50 MB L2 cache the rows in flight may take (LOG.md)
PROCESSORS = 132  # of an H100


def _shape(columns: int, itemsize: int) -> dict[str, Any]:
    """Two programs of 16 warps a multiprocessor where their rows fit the cache, else one of 32."""
    block, warps = (8192, 16) if 2 * PROCESSORS * columns * itemsize <= CACHE else (16384, 32)
    block = min(block, triton.next_power_of_2(columns))
    return {"BLOCK": block, "EVEN": columns % (2 * block) == 0, "num_warps": max(1, min(warps, block // 256))}


def _scale(scale: torch.Tensor | None, like: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The factors and their stride."""
    if scale is None:
        return torch.ones(1, device=like.device), 0
    return scale, 0 if scale.numel() == 1 else scale.stride(0)


class TritonRows:
    """See ``terms.Rows``; logits on a CUDA device (or on the CPU in Triton's interpreter)."""

    scales_apart = False

    def loss_and_gradient(self, logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, terms: Terms) -> None:
        rows, columns = logits.shape
        loss_and_gradient_kernel[(rows,)](
            logits, logits.stride(0), targets, *_scale(scale, logits), losses, columns, terms.ignore_index, terms.z_loss, terms.label_smoothing,
            SMOOTH=terms.label_smoothing > 0, **_shape(columns, logits.element_size()),
        )  # fmt: skip

    def statistics(self, logits: torch.Tensor, targets: torch.Tensor, out: torch.Tensor, terms: Terms) -> None:
        rows, columns = logits.shape
        statistics_kernel[(rows,)](
            logits, logits.stride(0), targets, out, out.stride(0), columns, terms.first,
            SMOOTH=terms.label_smoothing > 0, **_shape(columns, logits.element_size()),
        )  # fmt: skip

    def losses(self, statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
        return losses_of(statistics, targets, terms)

    def gradient(self, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor | None, terms: Terms) -> None:
        rows, columns = logits.shape
        gradient_kernel[(rows,)](
            logits, logits.stride(0), targets, statistics, statistics.stride(0), statistics.stride(1), *_scale(scale, logits), columns, terms.first,
            terms.vocabulary, terms.ignore_index, terms.z_loss, terms.label_smoothing,
            SHARDS=statistics.size(0), SMOOTH=terms.label_smoothing > 0, **_shape(columns, logits.element_size()),
        )  # fmt: skip
