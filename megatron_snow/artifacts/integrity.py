"""Whether an artefact's files still are what its manifest says, without reading terabytes at every start.

Contents are compared by sha256. What was found right is remembered with the files' sizes and times (of modification and of
status change: a program that sets the first back does not reach the second), beside the artefacts in ``<out>/.verified/``.
A file with the remembered size and times is not read again; one that was edited, copied or restored is, once. What changes
on a disk without the file system's knowledge is found by ``snow verify``, which reads everything.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import FileEntry, Manifest, hash_files, read_manifest
from megatron_snow.artifacts.settings import digest

FOLDER = ".verified"

Stamp = list[int]
"""Size in bytes, time of modification and of status change in nanoseconds, as JSON holds it."""


class Fault(NamedTuple):
    """A file that is not what the manifest says."""

    path: Path
    what: str


class Verified:
    """What is known of the artefacts in one output folder. The record is a memory only: lost or unwritable, files are read once more."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._sized: set[tuple[Path, str, str]] = set()

    def lost(self, folder: Path, manifest: Manifest) -> Fault | None:
        """A file that is gone or of another size than the manifest says, by what the file system lists: nothing is read.

        An artefact found whole is not looked at again through this object: a road asks where it stands at every stage.
        """
        made = folder, manifest.key, manifest.started
        if made in self._sized:
            return None
        fault = next((fault for name, entry in manifest.files.items() if (fault := _size_fault(folder / name, entry, _stamp(folder / name)))), None)
        if fault is None:
            self._sized.add(made)
        return fault

    def check(self, folder: Path, remedy: str) -> None:
        """Look at every file of an artefact; read those not known to be right. Raises SnowError naming the first that is not, with ``remedy``."""
        manifest = read_manifest(folder)
        if manifest is None:
            return
        known = self._recall(folder, manifest)
        faults = self._faults(folder, manifest, known)
        if faults:
            raise SnowError(complaint(faults[0], folder, remedy))

    def read_all(self, folder: Path) -> list[Fault]:
        """Read an artefact whole, whatever is known of it; returns what is wrong with it. Raises SnowError where its manifest is damaged."""
        manifest = read_manifest(folder)
        return [] if manifest is None else self._faults(folder, manifest, {})

    def remember(self, folder: Path) -> None:
        """The artefact was hashed a moment ago, when it was published."""
        if (manifest := read_manifest(folder)) is not None:
            self._write(folder, manifest, {name: stamp for name in manifest.files if (stamp := _stamp(folder / name)) is not None})

    def _faults(self, folder: Path, manifest: Manifest, known: dict[str, Stamp]) -> list[Fault]:
        stamps = {name: _stamp(folder / name) for name in manifest.files}  # taken before the bytes are read: a change meanwhile is seen next time
        faults = [fault for name, entry in manifest.files.items() if (fault := _size_fault(folder / name, entry, stamps[name]))]
        if faults:
            return faults
        unread = [name for name, stamp in stamps.items() if known.get(name) != stamp]
        hashes = hash_files([folder / name for name in unread], [manifest.files[name].bytes for name in unread], f"verifying {folder.name}")
        for name, found in zip(unread, hashes, strict=True):
            if found != manifest.files[name].sha256:
                said = f"its sha256 is {found[:12]}..., its manifest says {manifest.files[name].sha256[:12]}..."
                faults.append(Fault(folder / name, f"has other contents than when it was made ({said}): edited or damaged"))
        if unread:
            wrong = {fault.path for fault in faults}
            self._write(folder, manifest, {name: stamp for name, stamp in stamps.items() if stamp is not None and folder / name not in wrong})
        return faults

    def _record(self, folder: Path) -> Path:
        return self._out / FOLDER / (os.path.relpath(folder, self._out).replace(os.sep, "_") + ".json")

    def _recall(self, folder: Path, manifest: Manifest) -> dict[str, Stamp]:
        try:
            record = json.loads(self._record(folder).read_bytes())
            return record["files"] if record["of"] == _of(manifest) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self, folder: Path, manifest: Manifest, files: dict[str, Stamp]) -> None:
        path = self._record(folder)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):  # a full disk, another's folder: what is not remembered is read again
            path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps({"of": _of(manifest), "files": files}))
            os.replace(temporary, path)


def _of(manifest: Manifest) -> str:
    """What a record is about: the files the manifest names, with their contents."""
    return digest({name: [entry.bytes, entry.sha256] for name, entry in manifest.files.items()})


def complaint(fault: Fault, folder: Path, remedy: str) -> str:
    """What is wrong with an artefact and what to do about it."""
    return f"{fault.path} {fault.what}; put it back as it was, or delete {folder} and {remedy}"


def _size_fault(path: Path, entry: FileEntry, stamp: Stamp | None) -> Fault | None:
    if stamp is None:
        return Fault(path, "is missing, its manifest names it")
    return Fault(path, f"has {stamp[0]:,} bytes, its manifest says {entry.bytes:,}: cut short or edited") if stamp[0] != entry.bytes else None


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise SnowError(f"permission denied at {path}; let this account read it, or run as the one that wrote it") from error
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
