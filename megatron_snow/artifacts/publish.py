"""Atomic publication: an artefact is whole or absent, whatever kills us.

An arrow works in ``<folder>.building``; a ``KEY`` file there says whose work it is, so that a killed run with the
same key goes on where it stopped and one with another key starts over; what cost money to get (``keeps``) is then moved to
``<folder>.kept`` first. On success the manifest is written last and
the folder renamed into place; the artefact it replaces stays until then. A run killed between the two finds the
finished manifest and only renames (``Building.finished``).
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.machine import this_machine
from megatron_snow.artifacts.manifest import FORMAT, NAME, Manifest, artefact_key, list_files, read_manifest, sealed, versions
from megatron_snow.artifacts.progress import say

_KEY_FILE = "KEY"


class Building:
    """An artefact being made: write below ``work``, put numbers into ``counts``."""

    def __init__(
        self, folder: Path, arrow: str, arrow_version: int, settings: dict[str, Any], seed: int, inputs: dict[str, str],
        keeps: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder = folder
        self._keeps = keeps
        self.work = work_folder(folder)
        self.counts: dict[str, Any] = {}
        self._arrow, self._arrow_version = arrow, arrow_version
        self._settings, self.seed, self.inputs = settings, seed, inputs
        self.key = artefact_key(arrow, arrow_version, settings, seed, inputs)
        self._start, self._began = time.time(), time.monotonic()  # a clock that is set meanwhile must not make the work take negative time

    def open(self) -> Building:
        """Make or adopt the work folder."""
        key_file = self.work / _KEY_FILE
        if self.work.exists() and (not key_file.exists() or key_file.read_text() != self.key):
            self._put_aside()
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        write_atomically(key_file, self.key.encode())
        return self

    def _put_aside(self) -> None:
        """Move the files that are kept out of a work folder that is about to go."""
        for path in (path for name in self._keeps if (path := self.work / name).exists()):
            aside = kept_folder(self.folder)
            aside.mkdir(exist_ok=True)
            target = next(free for number in itertools.count(1) if not (free := aside / f"{number}-{path.name}").exists())
            os.rename(path, target)
            say(f"  {path} is of a run with other settings that was not finished: kept as {target}")

    @property
    def finished(self) -> bool:
        """Whether a killed run had written everything but not moved it into place."""
        return (self.work / NAME).exists()

    def publish(self) -> Manifest:
        """Write the manifest and move the work folder into place."""
        if self.finished:
            return self._move()
        started = datetime.datetime.fromtimestamp(self._start, datetime.UTC)
        manifest = Manifest(
            format=FORMAT,
            arrow=self._arrow,
            key=self.key,
            arrow_version=self._arrow_version,
            inputs=self.inputs,
            settings=self._settings,
            seed=self.seed,
            versions=versions(),
            counts=self.counts,
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 3),
            files=list_files(self.work, besides=(_KEY_FILE,)),
            machine=this_machine(),
        )
        write_atomically(self.work / NAME, sealed(manifest))
        return self._move()

    def _move(self) -> Manifest:
        replaced = self.folder.with_name(self.folder.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.folder.exists():
            os.rename(self.folder, replaced)
        os.rename(self.work, self.folder)
        shutil.rmtree(replaced, ignore_errors=True)
        (self.folder / _KEY_FILE).unlink(missing_ok=True)
        manifest = read_manifest(self.folder)
        assert manifest is not None  # written above, or by the killed run
        return manifest


def work_folder(folder: Path) -> Path:
    """Where an artefact is made before it is published."""
    return folder.with_name(folder.name + ".building")


def kept_folder(folder: Path) -> Path:
    """Where an artefact's kept files of unfinished runs with other settings lie, as ``<number>-<name>``."""
    return folder.with_name(folder.name + ".kept")


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds the old or the new bytes, never a part; survives a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold the output folder; a second run in it is refused with the owner named. The lock dies with the process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = (out / ".lock").open("a+")
    except OSError as error:
        raise SnowError(f"cannot write to the output folder {out}: {error.strerror}; choose another with --out") from error
    with handle:
        try:
            # A lock of the process, not of the open file: one that children inherit would outlive a killed run with them.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            handle.seek(0)
            raise SnowError(f"another run is at work in {out} ({handle.read().strip() or 'owner unknown'}); wait for it or choose another --out") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield
