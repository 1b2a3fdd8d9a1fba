"""Writing safetensors files tensor by tensor, in any order.

``safetensors.torch.save_file`` wants every tensor in memory. The format is simple enough to do without: an 8-byte
little-endian length, a JSON header with each tensor's type, shape and place, then the bytes. As all shapes are known
before the first tensor is read, the header goes first and each tensor to its place as it arrives: memory in use is one
tensor, whatever the model's size.
Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 5 * 10**9  # Hugging Face's own default until transformers 5; small enough to move about
_ITEM_BYTES = {"F32": 4, "BF16": 2}


class ShardedWriter:
    """``with ShardedWriter(folder, shapes, "BF16") as out: out.write(name, tensor)`` for every name, in any order.

    Makes ``model.safetensors``, or above ``shard_bytes`` ``model-00001-of-0000N.safetensors`` with an index, tensors
    placed in the order of ``shapes``, synced to disk when the block ends. Leaving the block without having written every tensor raises RuntimeError.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], item: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._sizes = {name: math.prod(shape) * _ITEM_BYTES[item] for name, shape in shapes.items()}
        self._missing = dict.fromkeys(shapes)
        self._places: dict[str, tuple[int, int]] = {}  # tensor -> (file descriptor, first byte)
        self._files: list[int] = []
        self.bytes = sum(self._sizes.values())
        shards = _shards(self._sizes, shard_bytes)
        names = ["model.safetensors"] if len(shards) == 1 else [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
        for file_name, members in zip(names, shards, strict=True):
            self._start(folder / file_name, {name: shapes[name] for name in members}, item)
        if len(shards) > 1:
            where = {tensor: file_name for file_name, members in zip(names, shards, strict=True) for tensor in members}
            index = {"metadata": {"total_size": self.bytes}, "weight_map": where}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _start(self, path: Path, shapes: Mapping[str, tuple[int, ...]], item: str) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        begins: dict[str, int] = {}
        end = 0
        for name, shape in shapes.items():
            begins[name], end = end, end + self._sizes[name]
            header[name] = {"dtype": item, "shape": list(shape), "data_offsets": [begins[name], end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the data starts aligned, so that it can be mapped
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._files.append(file)
        start = 8 + len(text)
        os.pwrite(file, len(text).to_bytes(8, "little") + text, 0)
        os.truncate(file, start + end)
        self._places |= {name: (file, start + begin) for name, begin in begins.items()}

    @property
    def missing(self) -> list[str]:
        """Tensors not yet written."""
        return list(self._missing)

    def write(self, name: str, tensor: Tensor) -> None:
        """Put one tensor, already of the file's type and of the promised shape, into its place."""
        import torch

        data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
        if len(data) != self._sizes[name]:
            raise ValueError(f"{name}: {len(data)} bytes where {self._sizes[name]} were promised")
        file, offset = self._places[name]
        while data:
            written = os.pwrite(file, data, offset)  # Linux writes at most 2 GiB at once
            data, offset = data[written:], offset + written
        self._missing.pop(name, None)

    def __enter__(self) -> ShardedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            if kind is None:
                os.fsync(file)
            os.close(file)
        if kind is None and self._missing:
            raise RuntimeError(f"{len(self._missing)} tensors were never written, {self.missing[0]} among them")


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Consecutive tensors grouped into files of at most ``limit`` bytes (a larger tensor gets its own)."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
