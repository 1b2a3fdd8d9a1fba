"""What tensor-parallel processes exchange for the loss; a single process exchanges nothing."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist


class Shards(Protocol):
    """The processes that share the vocabulary, in the order of their shards."""

    rank: int
    size: int

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """[size, *own.shape] from each process's ``own``."""
        ...

    def sum(self, partial: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, in place."""
        ...

    def sum_own_rows(self, partial: torch.Tensor) -> torch.Tensor:
        """This process's rows of the sum: [rows / size, ...] from [rows, ...]."""
        ...


class GroupShards:
    """Over a process group."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.rank, self.size = group, group.rank(), group.size()

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        out = own.new_empty(self.size * own.size(0), *own.shape[1:])
        dist.all_gather_into_tensor(out, own.contiguous(), group=self.group)
        return out.view(self.size, *own.shape)

    def sum(self, partial: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(partial, group=self.group)
        return partial

    def sum_own_rows(self, partial: torch.Tensor) -> torch.Tensor:
        out = partial.new_empty(partial.size(0) // self.size, *partial.shape[1:])
        dist.reduce_scatter_tensor(out, partial, group=self.group)
        return out
