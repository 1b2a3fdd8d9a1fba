"""The row-wise work between the matrix products by Triton's kernels (see ``terms.Rows``)."""

from __future__ import annotations

import torch
import triton

from megatron_snow.kernels.terms import Terms, losses_of
from megatron_snow.kernels.triton_kernels import gradient_kernel, loss_and_gradient_kernel, statistics_kernel

BLOCK, WARPS = 16384, 32  # ours: one program fills an SM, so that the rows in flight fit the L2 cache (LOG.md)


def _block(columns: int) -> int:
    return min(BLOCK, triton.next_power_of_2(columns))


def _warps(block: int) -> int:
    return max(1, min(WARPS, block // 256))


def _stride(scale: torch.Tensor) -> int:
    return 0 if scale.numel() == 1 else scale.stride(0)


class TritonRows:
    """See ``terms.Rows``; logits on a CUDA device (or on the CPU in Triton's interpreter)."""

    def loss_and_gradient(self, logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, losses: torch.Tensor, terms: Terms) -> None:
        rows, columns = logits.shape
        block = _block(columns)
        loss_and_gradient_kernel[(rows,)](
            logits, logits.stride(0), targets, scale, _stride(scale), losses, columns, terms.ignore_index, terms.z_loss, terms.label_smoothing,
            BLOCK=block, SMOOTH=terms.label_smoothing > 0, num_warps=_warps(block),
        )  # fmt: skip

    def statistics(self, logits: torch.Tensor, targets: torch.Tensor, out: torch.Tensor, terms: Terms) -> None:
        rows, columns = logits.shape
        block = _block(columns)
        statistics_kernel[(rows,)](
            logits, logits.stride(0), targets, out, out.stride(0), columns, terms.first, BLOCK=block, SMOOTH=terms.label_smoothing > 0,
            num_warps=_warps(block),
        )  # fmt: skip

    def losses(self, statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
        return losses_of(statistics, targets, terms)

    def gradient(self, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor, terms: Terms) -> None:
        rows, columns = logits.shape
        block = _block(columns)
        gradient_kernel[(rows,)](
            logits, logits.stride(0), targets, statistics, statistics.stride(0), statistics.stride(1), scale, _stride(scale), columns, terms.first,
            terms.vocabulary, terms.ignore_index, terms.z_loss, terms.label_smoothing,
            SHARDS=statistics.size(0), BLOCK=block, num_warps=_warps(block),
        )  # fmt: skip
