"""Compressed files read as streams where the library's own reader will not do: it takes a file cut short for its end, or any memory it is asked for."""

from __future__ import annotations

import io
import lzma
from abc import abstractmethod
from typing import IO, Any

import zstandard

_ZSTD_CHUNK = 2**10  # ours: zstd packs zeros 33,000 times, so that a step never makes more than 33 MB
_XZ_CHUNK = 2**16  # ours
_XZ_READY = 2**20  # bytes unpacked in a step at most (ours)
_XZ_MEMORY = 256 * 2**20  # bytes that unpacking may take (ours: what `xz -9` makes takes 65 MB, by its manual; a header may ask for 4 GB)


class _Unpacked(io.RawIOBase):
    """The bytes that ``_more`` brings from ``raw``, which is closed with it."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        self._raw = raw
        self._part: Any = None
        """What unpacks the frame or stream at hand; a file may hold several, one behind the other."""
        self._ready = b""

    @abstractmethod
    def _more(self) -> bytes | None:
        """Some bytes, maybe none yet; None at the end."""

    def _packed(self, chunk: int) -> bytes:
        """The next bytes of a part that is not at its end. Raises EOFError where the file is."""
        if packed := self._raw.read(chunk):
            return packed
        raise EOFError("the file ends in the middle of a frame")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            more = self._more()
            if more is None:
                return 0
            self._ready = more
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class ZstdStream(_Unpacked):
    """A zstd file, frame after frame. Raises EOFError where the last frame is not whole, ZstdError where one is damaged."""

    def _more(self) -> bytes | None:
        if self._part is not None and not self._part.eof:
            return bytes(self._part.decompress(self._packed(_ZSTD_CHUNK)))
        packed = (self._part.unused_data if self._part is not None else b"") or self._raw.read(_ZSTD_CHUNK)
        if not packed:
            return None
        self._part = zstandard.ZstdDecompressor().decompressobj()
        return bytes(self._part.decompress(packed))


class XzStream(_Unpacked):
    """An xz file, stream after stream. Raises EOFError where the last is not whole, LZMAError where one is damaged or wants too much memory."""

    def _more(self) -> bytes | None:
        if self._part is not None and not self._part.eof:
            return bytes(self._part.decompress(self._packed(_XZ_CHUNK) if self._part.needs_input else b"", _XZ_READY))
        packed = self._raw.read(_XZ_CHUNK)
        if self._part is not None:  # zeros may pad the end of a stream
            packed = (self._part.unused_data + packed).lstrip(b"\0")
            while not packed and (packed := self._raw.read(_XZ_CHUNK)):
                packed = packed.lstrip(b"\0")
        if not packed:
            return None
        self._part = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        return bytes(self._part.decompress(packed, _XZ_READY))
