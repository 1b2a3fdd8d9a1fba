"""Shards copied to host memory, so that training may go on while the copy is written.

One buffer holds a rank's share and stays for the next save. On a GPU it is page-locked and filled on a side stream;
the training's stream waits for the copy (it would change the weights otherwise), the process does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.checkpoint.shards import Shard

_ALIGNMENT = 512  # bytes; ours: any dtype may start there, and copies from a GPU run at full speed


class HostCopy:
    """The buffer of one rank."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._stream: torch.cuda.Stream | None = None

    def take(self, shards: list[Shard]) -> tuple[list[Shard], Callable[[], None]]:
        """Copies of ``shards``, and what waits until they are whole. They last until the next call.

        Raises:
            SnowError: where the host lacks the memory.
        """
        places, size = [], 0
        for shard in shards:
            places.append(size)
            size += -(-shard.data.nbytes // _ALIGNMENT) * _ALIGNMENT
        on_gpu = any(shard.data.is_cuda for shard in shards)
        self._reserve(size, on_gpu)
        copies = [replace(shard, data=self._view(shard.data, place)) for shard, place in zip(shards, places, strict=True)]
        if not on_gpu:
            for shard, copied in zip(shards, copies, strict=True):
                copied.data.copy_(shard.data)
            return copies, lambda: None
        return copies, self._copy_from_gpu(shards, copies)

    def _reserve(self, size: int, page_locked: bool) -> None:
        if self._buffer.numel() >= size:
            return
        try:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # frees the smaller one first
            self._buffer = torch.empty(size, dtype=torch.uint8)
        except RuntimeError as error:
            raise SnowError(f"no memory for a copy of {format_bytes(size)} to save from: set train.checkpoint.asynchronous to false") from error
        if page_locked:
            # torch's own pinned allocator rounds up to a power of two, which may be twice the memory
            status = torch.cuda.cudart().cudaHostRegister(self._buffer.data_ptr(), size, 0)  # type: ignore[no-untyped-call]
            if int(status) != 0:
                raise SnowError(f"cannot page-lock {format_bytes(size)} of host memory (CUDA error {int(status)}): set train.checkpoint.asynchronous to false")

    def _view(self, like: torch.Tensor, place: int) -> torch.Tensor:
        return self._buffer[place : place + like.nbytes].view(like.dtype).view(like.shape)

    def _copy_from_gpu(self, shards: list[Shard], copies: list[Shard]) -> Callable[[], None]:
        current = torch.cuda.current_stream()
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for shard, copied in zip(shards, copies, strict=True):
                copied.data.copy_(shard.data, non_blocking=True)
        done = self._stream.record_event()
        current.wait_event(done)
        return done.synchronize
