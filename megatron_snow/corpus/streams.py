"""A zstd file read as a stream, frame after frame, that notices where it was cut short: zstandard's own reader takes that for its end."""

from __future__ import annotations

import io
from typing import IO, Any

import zstandard

_CHUNK = 2**10  # ours: zstd packs zeros 33,000 times, so that a step never makes more than 33 MB


class ZstdStream(io.RawIOBase):
    """The decompressed bytes of ``raw``, which is closed with it. Raises EOFError where the last frame is not whole, ZstdError where one is damaged."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        self._raw = raw
        self._frame: Any = None
        self._packed = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if self._frame is None or self._frame.eof:
                self._packed = (self._frame.unused_data if self._frame is not None else b"") or self._raw.read(_CHUNK)
                if not self._packed:
                    return 0
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            else:
                self._packed = self._raw.read(_CHUNK)
                if not self._packed:
                    raise EOFError("the file ends in the middle of a frame")
            self._ready = self._frame.decompress(self._packed)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
