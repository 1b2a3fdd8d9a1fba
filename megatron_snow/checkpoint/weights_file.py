"""Writing model weights as a torch_dist checkpoint, tensor by tensor, in one process without process groups, megatron or a GPU.

What ``torch.distributed.checkpoint.save`` writes from a state dict that is all in memory is simple enough to write as the
tensors come: each is a ``torch.save`` archive behind the one before in ``__0_0.distcp``; ``.metadata``, written last, is a pickle that
says what there is and where; ``common.pt`` and ``metadata.json`` are megatron-core's own two files. Memory in use is one tensor.
The result holds no optimizer state and loads under any layout.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FILE = "__0_0.distcp"  # rank 0's first file
_BACKENDS = {"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch", "common_backend_version": 1}


class WeightsWriter:
    """``with WeightsWriter(folder) as out: out.add(name, tensor)`` for every weight, under the names of ``checkpoint.weights``.

    Leaving the block without an error completes the folder, everything synced to disk; with one it stays without ``.metadata``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / FILE).open("wb", buffering=0)
        self._tensors: dict[str, TensorStorageMetadata] = {}
        self._places: dict[MetadataIndex, _StorageInfo] = {}

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append one whole tensor, on the CPU. Raises ValueError where the name was added before."""
        if name in self._tensors:
            raise ValueError(f"{name} was written before")
        start = self._file.tell()
        tensor = tensor.detach().contiguous()
        if tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()  # a view: torch.save would write all that it looks at
        torch.save(tensor, cast(IO[bytes], _Whole(self._file)))
        offsets = torch.Size([0] * tensor.dim())
        chunk = ChunkStorageMetadata(offsets=offsets, sizes=tensor.size())
        self._tensors[name] = TensorStorageMetadata(TensorProperties.create_from_tensor(tensor), tensor.size(), [chunk])
        self._places[MetadataIndex(name, offsets)] = _StorageInfo(FILE, start, self._file.tell() - start)

    def __enter__(self) -> WeightsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                os.fsync(self._file.fileno())
                self._complete()
        finally:
            self._file.close()

    def _complete(self) -> None:
        torch.save({}, self._folder / "common.pt")  # megatron-core's home of what is no tensor: nothing here
        (self._folder / "metadata.json").write_text(json.dumps(_BACKENDS))
        (self._folder / ".metadata").write_bytes(pickle.dumps(Metadata(dict(self._tensors), storage_data=dict(self._places))))
        for name in ("common.pt", "metadata.json", ".metadata"):
            with (self._folder / name).open("rb") as file:
                os.fsync(file.fileno())


class _Whole:
    """The part of a file that torch.save wants, with writes that are never short (Linux writes at most 2 GiB at once)."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += self._file.write(view[written:])
        return written

    def flush(self) -> None:
        """Nothing is held back."""
