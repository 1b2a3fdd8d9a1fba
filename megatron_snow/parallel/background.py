"""A channel between the processes for text: collectives of its own, on the CPU, which a thread beside the training may use.

Collectives of one group must run in the same order everywhere, so a background thread cannot share the training's
groups. gloo serves here on GPUs too: what is exchanged are some kilobytes of text.
"""

from __future__ import annotations

import datetime

import torch
import torch.distributed as dist


class SideChannel:
    """One gloo group over all processes. Open it on every process, after ``open_groups``; use it from one thread at a time."""

    def __init__(self, timeout_seconds: float) -> None:
        self._group = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout_seconds))
        self._rank, self._world = dist.get_rank(), dist.get_world_size()

    def gather(self, message: bytes) -> list[bytes]:
        """Every process's message, by rank, on process 0; an empty list elsewhere."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._world)]
        dist.all_gather(sizes, torch.tensor([len(message)]), group=self._group)
        longest = max(1, *(int(size) for size in sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(message)] = torch.frombuffer(bytearray(message), dtype=torch.uint8) if message else padded[:0]
        everybody = [torch.empty(longest, dtype=torch.uint8) for _ in range(self._world)] if self._rank == 0 else None
        dist.gather(padded, everybody, dst=0, group=self._group)
        return [one.numpy().tobytes()[: int(size)] for one, size in zip(everybody or [], sizes if everybody else [], strict=True)]

    def broadcast(self, message: bytes) -> bytes:
        """Process 0's message, on every process."""
        size = torch.tensor([len(message)])
        dist.broadcast(size, src=0, group=self._group)
        content = torch.zeros(int(size), dtype=torch.uint8)
        if self._rank == 0 and message:
            content.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
        if len(content):
            dist.broadcast(content, src=0, group=self._group)
        return content.numpy().tobytes()

    def first(self, message: bytes) -> bytes:
        """The message of the lowest process that has one (is not empty), on every process."""
        everybody = self.gather(message)
        return self.broadcast(next((one for one in everybody if one), b""))
