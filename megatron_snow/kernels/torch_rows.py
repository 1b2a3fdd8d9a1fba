"""The row-wise work between the matrix products in plain torch, for the CPU (see ``terms.Rows``).

Rows are taken in blocks small enough to stay in the processor's cache between the operations, and only such a block is
ever held in fp32 beside lower-precision logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from megatron_snow.kernels.terms import EXPONENTIALS, LOGITS, MAXIMUM, TARGET, Terms, log_partition, losses_of

BLOCK = 2 << 20  # bytes of a block in working precision; ours: the second-level caches of two cores hold it


def _blocks(logits: torch.Tensor, working: torch.dtype) -> Iterator[slice]:
    rows = max(1, BLOCK // (logits.size(1) * working.itemsize))
    for start in range(0, logits.size(0), rows):
        yield slice(start, min(start + rows, logits.size(0)))


class TorchRows:
    """See ``terms.Rows``. Works in fp32 (fp64 for fp64 logits)."""

    scales_apart = True

    def loss_and_gradient(self, logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, terms: Terms) -> None:
        for part in _blocks(logits, losses.dtype):
            x = logits[part].to(losses.dtype)
            own = torch.zeros(1, 4, x.size(0), dtype=x.dtype, device=x.device)
            own[0, TARGET] = _at_targets(x, targets[part], terms)
            if terms.label_smoothing:
                own[0, LOGITS] = x.sum(1)
            own[0, MAXIMUM] = x.amax(1)
            torch.softmax(x, 1, out=x)
            own[0, EXPONENTIALS] = x.amax(1).reciprocal()  # the largest probability is exp(0) / sum
            losses[part] = losses_of(own, targets[part], terms)
            _gradient(x, targets[part], log_partition(own), _part(scale, part), terms)
            if x.dtype != logits.dtype:
                logits[part] = x

    def statistics(self, logits: torch.Tensor, targets: torch.Tensor, out: torch.Tensor, terms: Terms) -> None:
        for part in _blocks(logits, out.dtype):
            x = logits[part].to(out.dtype)
            out[MAXIMUM, part] = torch.logsumexp(x, 1)
            out[EXPONENTIALS, part] = 1.0  # any pair with the same m + log s says the same
            out[TARGET, part] = _at_targets(x, targets[part], terms)
            out[LOGITS, part] = x.sum(1) if terms.label_smoothing else 0.0

    def losses(self, statistics: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
        return losses_of(statistics, targets, terms)

    def gradient(self, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor, scale: torch.Tensor | None, terms: Terms) -> None:
        lse = log_partition(statistics)
        for part in _blocks(logits, lse.dtype):
            x = logits[part].to(lse.dtype)
            x.sub_(lse[part, None]).exp_()
            _gradient(x, targets[part], lse[part], _part(scale, part), terms)
            if x.dtype != logits.dtype:
                logits[part] = x


def _part(scale: torch.Tensor | None, part: slice) -> torch.Tensor | None:
    return scale if scale is None or scale.numel() == 1 else scale[part]


def _local(x: torch.Tensor, targets: torch.Tensor, terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
    """Each target's column (some column for those of other shards), and whether it is this shard's."""
    local = targets - terms.first
    return local.clamp(0, x.size(1) - 1)[:, None], (local >= 0) & (local < x.size(1))


def _at_targets(x: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
    columns, inside = _local(x, targets, terms)
    return torch.where(inside, x.gather(1, columns).squeeze(1), 0.0)


def _gradient(x: torch.Tensor, targets: torch.Tensor, lse: torch.Tensor, scale: torch.Tensor | None, terms: Terms) -> None:
    """Probabilities ``x`` become their row's gradient, ``scale`` times."""
    factors = lse.new_ones(()) if scale is None else scale
    if scale is not None or terms.z_loss:
        x.mul_(((1.0 + 2.0 * terms.z_loss * lse) * factors)[:, None])
    if terms.label_smoothing:
        x.sub_((terms.label_smoothing / terms.vocabulary * factors).reshape(-1, 1))
    columns, inside = _local(x, targets, terms)
    x.scatter_add_(1, columns, torch.where(inside, (terms.label_smoothing - 1.0) * factors, 0.0)[:, None])
    x.index_fill_(0, (targets == terms.ignore_index).nonzero().squeeze(1), 0.0)  # 0 x inf would be nan; a mask would visit every element
