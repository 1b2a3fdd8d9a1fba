"""Stored pieces of tensors, as torch.distributed.checkpoint lays them into ``*.distcp`` files: one ``torch.save`` archive after another.

A piece is read into its own memory once and no further: not the file, not the archive. torch does not look at the archive's checksum
when it loads; here it is compared, so that a flipped bit is found without hashing the whole file, optimizer state and all.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import torch

from megatron_snow.artifacts.errors import SnowError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _Window(io.RawIOBase):
    """``length`` bytes of an open file from ``offset`` on, as a file of its own."""

    def __init__(self, file: io.FileIO, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._length - self._at)]
        self._file.seek(self._offset + self._at)
        filled = 0
        while filled < len(view) and (count := self._file.readinto(view[filled:])):  # Linux reads at most 2 GiB at once
            filled += count
        self._at += filled
        return filled


def read_piece(path: Path, offset: int, length: int, what: str) -> torch.Tensor:
    """The tensor saved at ``offset`` of a ``*.distcp`` file; takes its own size in memory.

    Args:
        what: names it in messages.

    Raises:
        SnowError: where the file is missing, cut short, or not what was written.
    """
    try:
        if path.stat().st_size < offset + length:
            raise SnowError(f"{path} is cut short where {what} is stored: use another checkpoint")
        with path.open("rb", buffering=0) as file:
            window = _Window(file, offset, length)  # unbuffered: straight into the tensor's memory
            piece = torch.load(cast(IO[bytes], window), map_location="cpu", weights_only=True)
            if not isinstance(piece, torch.Tensor):
                raise SnowError(f"{path} holds a {type(piece).__name__} where {what} should be stored: use another checkpoint")
            _check(window, piece, path, what)
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise SnowError(f"{path} is damaged or missing ({what} cannot be read: {error}): use another checkpoint") from error
    return piece


def _check(window: _Window, piece: torch.Tensor, path: Path, what: str) -> None:
    with zipfile.ZipFile(window) as archive:
        stored = [entry for entry in archive.infolist() if entry.filename.endswith("/data/0")]
    raw = torch.empty(0, dtype=torch.uint8).set_(piece.untyped_storage())
    if len(stored) != 1 or stored[0].file_size != raw.numel() or zlib.crc32(raw.numpy().data) != stored[0].CRC:
        raise SnowError(f"{path} is damaged where {what} is stored (its checksum differs): use another checkpoint")
