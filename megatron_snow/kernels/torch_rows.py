"""The row-wise work between the matrix products in plain torch, for the CPU (see ``terms.Rows``)."""

from __future__ import annotations

import torch

from megatron_snow.kernels.terms import EXPONENTIALS, LOGITS, MAXIMUM, TARGET, Terms, log_partition, losses_of


class TorchRows:
    """See ``terms.Rows``. Works in fp32 (fp64 for fp64 logits) beside lower-precision logits: one copy of the chunk."""

    def loss_and_gradient(self, logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, losses: torch.Tensor, terms: Terms) -> None:
        statistics = torch.empty(1, 4, targets.numel(), dtype=losses.dtype, device=logits.device)
        self.statistics(logits, targets, statistics[0], terms)
        losses.copy_(losses_of(statistics, targets, terms))
        self.gradient(logits, targets, statistics, scale, terms)

    def statistics(self, logits: torch.Tensor, targets: torch.Tensor, out: torch.Tensor, terms: Terms) -> None:
        x = logits.to(out.dtype)
        torch.amax(x, 1, out=out[MAXIMUM])
        out[EXPONENTIALS] = (torch.logsumexp(x, 1) - out[MAXIMUM]).exp()
        local = targets - terms.first
        inside = (local >= 0) & (local < x.size(1))
        found = x.gather(1, local.clamp(0, x.size(1) - 1)[:, None]).squeeze(1)
        out[TARGET] = torch.where(inside, found, 0.0)
        out[LOGITS] = x.sum(1) if terms.label_smoothing else 0.0

    def losses(self, statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
        return losses_of(statistics, targets, terms)

    def gradient(self, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor, terms: Terms) -> None:
        lse = log_partition(statistics)
        x = logits.to(lse.dtype)
        scales = torch.where(targets == terms.ignore_index, 0.0, scale)
        gradient = torch.sub(x, lse[:, None], out=x if x.dtype == logits.dtype else None).exp_()
        gradient.mul_(((1.0 + 2.0 * terms.z_loss * lse) * scales)[:, None])
        if terms.label_smoothing:
            gradient.sub_((terms.label_smoothing / terms.vocabulary * scales)[:, None])
        local = targets - terms.first
        inside = (local >= 0) & (local < x.size(1))
        at_target = torch.where(inside, (terms.label_smoothing - 1.0) * scales, 0.0)
        gradient.scatter_add_(1, local.clamp(0, x.size(1) - 1)[:, None], at_target[:, None])
        gradient[targets == terms.ignore_index] = 0.0  # 0 x inf would be nan
        if gradient.dtype != logits.dtype:
            logits.copy_(gradient)
