"""Tarballs and zip files, each the snapshot of one repository, read as streams: nothing is ever unpacked onto a disk.

An archive is read twice. The first pass counts, and finds the licence files; an archive that is too large, or whose sizes are those of a
bomb, is refused there, before anything of it is used. The second yields the files. Memory holds one file at a time.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.license_texts import files_license, is_license_file
from megatron_snow.corpus.settings import ArchivesSource
from megatron_snow.corpus.streams import XzStream, ZstdStream
from megatron_snow.corpus.walking import files_below

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip")
_HEADERS = 16 * 2**20  # bytes between two files of a tar that may be headers (ours: a path has 4 kB; a header is read into memory whole)
_CHUNK = 2**16
_ENTRIES = 2_000_000  # files in one archive (ours: ten times the Linux kernel's)
_RATIO = 250  # bytes out of one byte in (ours: deflate's limit is 1032; source text packs 4 to 12 times, the worst of 190 Debian sources 21)
_RATIO_FROM = 64 * 2**20  # bytes out below which the ratio does not matter
_LICENSE_BYTES = 200_000  # of a licence file; larger ones are none (ours: the GPL has 35,000)
_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
# A release is called after its project, and the project is the repository: "name-1.2.3", Debian's "name_7.0.0.orig" and "name_1.0.orig-docs".
_DEBIAN = re.compile(r"(?P<name>[^_]+)_v?\d[\w.+~:-]*?(?:\.orig(?:-(?P<part>[\w-]+))?|\.debian)?")
_RELEASE = re.compile(r"(?P<name>.+?)-v?\d+\.[\w.+~]+(?:-[\w.+~]+)?(?P<part>)")


class ArchiveError(Exception):
    """The archive is refused; the message is the drop reason."""


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of an archive; ``content`` reads it, once, before the next one is asked for."""

    path: str
    """Inside the repository: without the one folder that all files may be in, without ``./``."""
    size: int
    content: Callable[[], bytes]


@dataclass(slots=True)
class Survey:
    """What the first pass found."""

    files: int = 0
    bytes: int = 0
    prefix: str = ""
    """The one folder that holds everything, with its slash; "" where there is none."""
    license: str = ""
    entries: list[tuple[str, int]] = field(default_factory=list)
    """(path, size) of every file, where they were asked for."""


def archive_files(source: ArchivesSource) -> tuple[list[Path], dict[str, int]]:
    """The archives of a source, sorted, and the links not followed (``walking.files_below``). Raises SnowError where there is no archive."""
    if not source.path.exists():
        raise SnowError(f"corpus source {source.name}: {source.path} does not exist; mend 'path'")
    below, skipped = files_below(source.path)
    found = [path for path in below if path.name.lower().endswith(SUFFIXES)]
    if not found:
        raise SnowError(f"corpus source {source.name}: {source.path} holds no {', '.join(SUFFIXES)} file; mend 'path'")
    return found, skipped


def archives_fingerprint(source: ArchivesSource) -> str:
    """Changes with the archives' names, sizes and times of change."""
    root = source.path if source.path.is_dir() else source.path.parent
    return digest([[p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in archive_files(source)[0]])


def repository_name(file: Path) -> tuple[str, str]:
    """(repository, folder inside it) an archive is named for: ``redis_7.0.15.orig.tar.gz`` is of ``redis``."""
    name = file.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    match = _DEBIAN.fullmatch(name) or _RELEASE.fullmatch(name)
    if match is None:
        return name, ""
    return match["name"], f"{match['part']}/" if match["part"] else ""


def survey(file: Path, max_bytes: int, entries: bool = False) -> Survey:
    """The first pass. Raises ArchiveError where the archive is damaged, too large, or a bomb."""
    result = Survey()
    texts: list[tuple[str, str]] = []
    tops: set[str] = set()
    packed = file.stat().st_size
    for path, size, content in _walk(file, max_bytes):
        result.files += 1
        result.bytes += size
        if result.files > _ENTRIES:
            raise ArchiveError("archive of too many files")
        if result.bytes > max_bytes:
            raise ArchiveError("archive too large")
        if result.bytes > _RATIO_FROM and result.bytes > _RATIO * packed:
            raise ArchiveError("archive is a bomb")
        if len(tops) < 2:
            tops.add(path.partition("/")[0] if "/" in path else "")
        if entries:
            result.entries.append((path, size))
        inner = path.partition("/")[2]
        if (is_license_file(path) or is_license_file(inner)) and size <= _LICENSE_BYTES:
            texts.append((path, content().decode(errors="replace")))
    if len(tops) == 1 and (top := tops.pop()):
        result.prefix = f"{top}/"
    result.license = files_license((name, text) for path, text in texts if is_license_file(name := path.removeprefix(result.prefix)))
    return result


def members(file: Path, prefix: str, max_bytes: int) -> Iterator[Member]:
    """The second pass: every regular file. Raises ArchiveError where the archive changed or cannot be read."""
    for path, size, content in _walk(file, max_bytes):
        yield Member(path.removeprefix(prefix), size, content)


def _walk(file: Path, max_bytes: int) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """(path, size, reader) of the regular files; links, devices and what is named outside the archive are passed over."""
    try:
        walk = _zip(file) if file.name.lower().endswith(".zip") else _tar(file, max_bytes)
        for name, size, content in walk:
            parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
            if parts and ".." not in parts:
                yield "/".join(parts), size, partial(_guarded, content)
    except ArchiveError:
        raise
    except _DAMAGES as error:
        raise ArchiveError("damaged archive") from error


def _guarded(content: Callable[[], bytes]) -> bytes:
    """What ``content`` reads; it is called outside the walk."""
    try:
        return content()
    except ArchiveError:
        raise
    except _DAMAGES as error:
        raise ArchiveError("damaged archive") from error


def _tar(file: Path, max_bytes: int) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _unpacked(file) as raw, _Bounded(raw, max_bytes + _HEADERS) as stream, tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
        for entry in tar:
            if entry.isreg() and not entry.issparse():
                stream.expect(entry.size)
                yield entry.name, entry.size, lambda entry=entry: cast("IO[bytes]", tar.extractfile(entry)).read()  # type: ignore[misc]
            else:
                stream.expect(0)
        while stream.read(_CHUNK):  # what follows the last file: a compressed stream says at its end whether it was whole
            pass


class _Bounded(io.RawIOBase):
    """A stream that ends in an error where more is read than the file at hand explains: tarfile reads a header of any size into memory."""

    def __init__(self, raw: IO[bytes], total: int) -> None:
        super().__init__()
        self._raw, self._left, self._allowed = raw, total, _HEADERS

    def expect(self, size: int) -> None:
        """A file of ``size`` bytes comes next."""
        self._allowed = size + _HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._raw.read(len(buffer))
        self._allowed -= len(chunk)
        self._left -= len(chunk)
        if self._allowed < 0:
            raise ArchiveError("archive is a bomb")
        if self._left < 0:
            raise ArchiveError("archive too large")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _unpacked(file: Path) -> IO[bytes]:
    name = file.name.lower()
    if name.endswith((".gz", ".tgz")):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if name.endswith((".bz2", ".tbz2")):
        return cast("IO[bytes]", bz2.open(file, "rb"))
    if name.endswith((".xz", ".txz")):
        return io.BufferedReader(XzStream(file.open("rb")), 2**20)
    if name.endswith(".zst"):
        return io.BufferedReader(ZstdStream(file.open("rb")), 2**20)
    return file.open("rb")


def _zip(file: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not entry.is_dir() and (entry.external_attr >> 16) & 0o170000 in (0, 0o100000):
                yield entry.filename, entry.file_size, lambda entry=entry: _zip_content(archive, entry)  # type: ignore[misc]


def _zip_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) > entry.file_size:
        raise ArchiveError("archive is a bomb")
    return content
