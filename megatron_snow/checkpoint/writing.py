"""The bytes of a torch_dist checkpoint: a file of weights and one of optimizer state a rank, and ``.metadata`` over all of them.

Weights have files of their own, so that a conversion reads (and checks) nothing else. Each file is hashed while it is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import FileEntry
from megatron_snow.artifacts.settings import Settings
from megatron_snow.checkpoint.shards import Shard

_DCP_VERSION = "1.0.0"  # of torch.distributed.checkpoint's format, torch 2.11 to 2.13


class Piece(Settings):
    """One stored box: of which tensor, where it begins in it, its sizes, and its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: tuple[int, ...]
    sizes: tuple[int, ...]
    start: int
    length: int


class WrittenFile(Settings):
    """One file of shards, as its writer tells process 0."""

    name: str
    entry: FileEntry
    pieces: tuple[Piece, ...]


class _Hashing(io.RawIOBase):
    """A file that hashes what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.sha256, self.written = file, hashlib.sha256(), 0
        self.refused: OSError | None = None  # torch.save makes a RuntimeError of it

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.refused = error
            raise
        self.written += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def _save(value: Any, out: _Hashing) -> None:
    try:
        torch.save(value, cast(IO[bytes], out))
    except RuntimeError:
        if out.refused is not None:
            raise out.refused from None
        raise


def write_shards(folder: Path, name: str, shards: Iterable[Shard]) -> WrittenFile:
    """Write the shards one after the other into ``folder/name``, down to the disk. Raises OSError."""
    pieces = []
    with (folder / name).open("wb") as file:
        out = _Hashing(file)
        for shard in shards:
            start = out.written
            _save(shard.data.detach().cpu().clone(), out)  # a view would take the whole buffer with it
            pieces.append(
                Piece(
                    name=shard.name, shape=shard.shape, dtype=str(shard.data.dtype).removeprefix("torch."), offset=shard.offset,
                    sizes=tuple(shard.data.shape), start=start, length=out.written - start,
                )
            )  # fmt: skip
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(name=name, entry=FileEntry(bytes=out.written, sha256=out.sha256.hexdigest()), pieces=tuple(pieces))


def write_metadata(folder: Path, files: Iterable[WrittenFile], common: dict[str, Any]) -> dict[str, FileEntry]:
    """Write what describes the shards of all ranks, and what is the same on all of them (``common.pt``); returns all files.

    Raises:
        RuntimeError: where the ranks' pieces do not make up whole tensors.
    """
    tensors: dict[str, TensorStorageMetadata] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}
    entries = {}
    for file in files:
        entries[file.name] = file.entry
        for piece in file.pieces:
            properties = TensorProperties(dtype=getattr(torch, piece.dtype))
            tensor = tensors.setdefault(piece.name, TensorStorageMetadata(properties=properties, size=torch.Size(piece.shape), chunks=[]))
            tensor.chunks.append(ChunkStorageMetadata(offsets=torch.Size(piece.offset), sizes=torch.Size(piece.sizes)))
            places[MetadataIndex(piece.name, torch.Size(piece.offset))] = _StorageInfo(file.name, piece.start, piece.length)
    _check_whole(tensors)
    metadata = Metadata(state_dict_metadata=dict(tensors), planner_data=None, storage_data=places, version=_DCP_VERSION)
    small = {".metadata": pickle.dumps(metadata), "metadata.json": json.dumps(_MEGATRON).encode()}
    for name, data in small.items():
        entries[name] = _write(folder / name, data)
    with (folder / "common.pt").open("wb") as handle:
        out = _Hashing(handle)
        _save(common, out)
        handle.flush()
        os.fsync(handle.fileno())
    entries["common.pt"] = FileEntry(bytes=out.written, sha256=out.sha256.hexdigest())
    return dict(sorted(entries.items()))


_MEGATRON = {"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch", "common_backend_version": 1}
"""What megatron-core's ``metadata.json`` says (CheckpointingConfig)."""


def _write(path: Path, data: bytes) -> FileEntry:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _check_whole(tensors: dict[str, TensorStorageMetadata]) -> None:
    """A tensor's pieces have distinct places; where their sizes add up to its own, none is missing or doubled."""
    for name, tensor in tensors.items():
        stored = sum(math.prod(chunk.sizes) for chunk in tensor.chunks)
        if stored != math.prod(tensor.size):
            raise RuntimeError(f"the ranks wrote {stored} of the {math.prod(tensor.size)} numbers of {name}")


def refuse_newer(folder: Path) -> None:
    """Refuse a checkpoint whose ``metadata.json`` names a format that this version does not know. Raises SnowError."""
    path = folder / "metadata.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SnowError(f"{path} is damaged or missing ({error}): use another checkpoint") from error
    if found != _MEGATRON:
        raise SnowError(f"{path} describes another format ({found}), this version reads {_MEGATRON}: it is foreign, or needs a newer megatron_snow")
