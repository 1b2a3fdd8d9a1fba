"""The loss in plain differentiable torch, in the precision it is given (fp64 included): what the others are held to."""

from __future__ import annotations

import torch

from megatron_snow.kernels.terms import Reduction


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The signature and meaning of ``loss.linear_cross_entropy`` on one process; holds the logits, autograd does the rest."""
    logits = hidden @ weight.t()
    lse = torch.logsumexp(logits, 1)
    counted = targets != ignore_index
    target = logits.gather(1, torch.where(counted, targets, 0)[:, None]).squeeze(1)
    losses = lse - (1.0 - label_smoothing) * target - label_smoothing * logits.mean(1) + z_loss * lse.square()
    losses = torch.where(counted, losses, 0.0)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / counted.sum().clamp(min=1)
