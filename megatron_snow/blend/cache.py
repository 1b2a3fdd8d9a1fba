"""Index arrays kept on disk: what a start would otherwise compute again, mapped and shared by the processes of a machine.

An entry's name says what its content was made from (fingerprints of the index files, keys of the order), so that an
entry is right or absent, never out of date, and a folder may be copied to any machine. Each is written beside itself
and renamed into place: readers see all of it or nothing, whatever was killed. One process builds while others of the
same machine wait (a file lock, which dies with its holder; where the file system has none, they build alike bytes).
A damaged entry is found by its checksum, removed and built again. A folder that cannot be written serves what it holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.blend import native

Entry = npt.NDArray[Any]

_HEADER = struct.Struct("<8sI4sQQQ16s")  # magic, version, type, entries, checksum (two halves), hash of the name
_MAGIC = b"SNOWINDX"
_VERSION = 1
_OFFSET = 64  # of the array: aligned for any type
_LEFT_OVER = 86_400  # seconds after which an unfinished file is one of a killed process (ours: no entry takes an hour)


class IndexCache:
    """A folder of named arrays; with no folder, nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` is made where it is missing. Raises SnowError where it can neither be made nor read."""
        self.folder = folder
        self._warned = False
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.part"):
                if time.time() - path.stat().st_mtime > _LEFT_OVER:
                    path.unlink(missing_ok=True)
        except OSError as error:
            if not folder.is_dir():
                raise SnowError(f"the index cache {folder} cannot be made: {error.strerror}; name a folder that can be written") from error

    def get(self, name: str, dtype: str, make: Callable[[], Entry], check: bool = True) -> Entry:
        """The entry ``name``, made where it is absent or damaged: a read-only array of ``dtype``.

        ``check`` reads all of it against its checksum; without, damage must be found where the entry is used (``drop`` it then).
        """
        if self.folder is None:
            return np.ascontiguousarray(make(), dtype)
        found = self.load(name, dtype, check)
        if found is None:
            with self._locked(name):
                found = self.load(name, dtype, check)  # another process may have made it meanwhile
                if found is None:
                    found = np.ascontiguousarray(make(), dtype)
                    if self.store(name, found):
                        found = self.load(name, dtype, check=False)
                        assert found is not None  # written just now
        return found

    def load(self, name: str, dtype: str, check: bool = True) -> Entry | None:
        """The entry, mapped; None where it is absent, or damaged and therefore removed."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            with path.open("rb") as file:
                raw = file.read(_HEADER.size)
                size = os.fstat(file.fileno()).st_size
                array = _mapped(file.fileno(), size, raw, name, dtype)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnowError(f"the index cache {path} cannot be read: {error.strerror}; name another folder") from error
        if array is None or (check and native.digest(array) != _HEADER.unpack(raw)[4:6]):
            say(f"the cached index {path} is damaged and made again")
            self.drop(name)
            return None
        return array

    def store(self, name: str, array: Entry) -> bool:
        """Write the entry; False, said once, where the folder cannot be written."""
        if self.folder is None:
            return False
        part = self.folder / f"{name}.{uuid.uuid4().hex}.part"
        kind = array.dtype.str.encode().ljust(4)
        header = _HEADER.pack(_MAGIC, _VERSION, kind, len(array), *native.digest(array), _name_hash(name)).ljust(_OFFSET, b"\0")
        try:
            with part.open("wb") as file:
                file.write(header)
                file.write(array.data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._path(name))
        except OSError as error:
            part.unlink(missing_ok=True)
            if not self._warned:
                say(f"the index cache {self.folder} cannot be written ({error.strerror}): indices are built in memory")
            self._warned = True
            return False
        return True

    def written(self, name: str) -> int:
        """When the entry was written, ns since the epoch; 0 where it is absent."""
        try:
            return 0 if self.folder is None else self._path(name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def drop(self, name: str) -> None:
        """Remove an entry that turned out wrong."""
        if self.folder is not None:
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError as error:
                raise SnowError(
                    f"the cached index {self._path(name)} is damaged and cannot be removed: {error.strerror}; remove it or name another folder"
                ) from error

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.index"

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """A lock of the entry's own: making one entry may need others, which must not wait for it."""
        assert self.folder is not None
        path = self.folder / f"{name}.lock"
        try:
            lock = path.open("w")
        except OSError:  # a folder that cannot be written: nothing will be, so nothing needs the lock
            yield
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                say(f"{self.folder} has no file locks: processes may build the same index side by side")
            yield
            path.unlink(missing_ok=True)  # who waits for it finds the entry; who comes now locks a new file and finds it too


def _name_hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def _mapped(handle: int, size: int, raw: bytes, name: str, dtype: str) -> Entry | None:
    """The array behind a header that says what it should; None where it does not."""
    if len(raw) < _HEADER.size:
        return None
    magic, version, kind, entries, _, _, named = _HEADER.unpack(raw)
    wanted = np.dtype(dtype)
    if (magic, version, kind.rstrip(), named) != (_MAGIC, _VERSION, wanted.str.encode(), _name_hash(name)) or size != _OFFSET + entries * wanted.itemsize:
        return None
    if entries == 0:
        return np.empty(0, wanted)
    return np.frombuffer(mmap.mmap(handle, size, access=mmap.ACCESS_READ), wanted, entries, _OFFSET)


def cache_folder(setting: str | None) -> Path | None:
    """The folder a recipe names, ``~`` and environment variables filled in (``$SLURM_TMPDIR/index`` is a node's own). Raises SnowError for an unset one."""
    if setting is None:
        return None
    path = os.path.expanduser(os.path.expandvars(setting))
    if "$" in path:
        raise SnowError(f"index_cache {setting} names an environment variable that is not set here; set it, or write the path out")
    return Path(path)
