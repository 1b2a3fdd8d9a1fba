"""Raw code that is on every machine the project runs on: the standard library and the distributions beside the project.

The standard library is one repository upstream, but as one it would be all held out or not at all: here each top-level
module is a repository ``python/cpython/<module>``, together with its tests (``test/test_json.py`` goes with ``json``).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import cast

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.license_texts import files_license, is_license_file
from megatron_snow.corpus.licenses import distribution_license
from megatron_snow.corpus.settings import DistributionsSource, StdlibSource

_NOT_STDLIB = {"site-packages", "dist-packages", "__pycache__", "lib-dynload"}
STDLIB_LICENSE = "PSF-2.0"  # https://docs.python.org/3/license.html


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """One file found beside the project; not opened yet."""

    repository: str
    path: str
    """Inside the repository, with forward slashes."""
    location: str
    license: str
    size: int


def stdlib_files(source: StdlibSource) -> Iterator[InstalledFile]:
    """Every regular file of the standard library. Raises SnowError where a module of ``only`` is not there."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = {entry.name.removesuffix(".py") for entry in root.iterdir()} - _NOT_STDLIB
    if missing := sorted(set(source.only) - modules):
        raise SnowError(f"corpus source {source.name}: {root} has no top-level module {missing[0]!r}; mend 'only'")
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in set(names) - _NOT_STDLIB if not name.startswith("config-"))  # config-3.11-...: what the build left behind
        for name in sorted(files):
            location = Path(folder) / name
            path = location.relative_to(root).as_posix()
            module = stdlib_module(path, modules)
            if location.is_symlink() or (source.only and module not in source.only):
                continue
            yield InstalledFile(f"python/cpython/{module}", path, str(location), STDLIB_LICENSE, location.stat().st_size)


def stdlib_module(path: str, modules: set[str]) -> str:
    """The top-level module a file of the standard library belongs to; the tests of a module belong to it."""
    parts = path.split("/")
    if parts[0] == "test" and len(parts) > 1:
        tested = parts[1].removesuffix(".py").removeprefix("test_")
        if tested.startswith("__"):
            return "test"
        return tested if tested in modules else f"test_{tested}"
    return parts[0].removesuffix(".py")


def installed_distributions(source: DistributionsSource) -> list[importlib.metadata.Distribution]:
    """The distributions Python would import from, by normalised name. Raises SnowError where one of ``only`` is not installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] if distribution.metadata else None
        if name:
            found.setdefault(normalised(name), distribution)
    if missing := sorted({normalised(name) for name in source.only} - found.keys()):
        raise SnowError(f"corpus source {source.name}: distribution {missing[0]!r} is not installed; mend 'only' or install it")
    excluded = {normalised(name) for name in source.exclude}
    wanted = {normalised(name) for name in source.only} or found.keys() - excluded
    return [found[name] for name in sorted(wanted)]


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_files(source: DistributionsSource) -> Iterator[InstalledFile]:
    """Every file the distributions' RECORDs list inside the package folders (no scripts, no metadata)."""
    for distribution in installed_distributions(source):
        repository = normalised(distribution.metadata["Name"])
        license_ = distribution_license(cast(Message, distribution.metadata)) or files_license(_license_files(distribution))
        for file in sorted(distribution.files or (), key=str):
            parts = file.parts
            if ".." in parts or file.is_absolute() or "__pycache__" in parts or parts[0].endswith((".dist-info", ".egg-info")):
                continue
            location = str(distribution.locate_file(file))
            size = file.size if file.size is not None else _size(location)
            if size is not None:
                yield InstalledFile(repository, file.as_posix(), location, license_, size)


def _license_files(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, str]]:
    """(name, text) of the licence files in a distribution's metadata folder."""
    for file in distribution.files or ():
        if file.parts[0].endswith((".dist-info", ".egg-info")) and is_license_file(file.name):
            try:
                yield file.name, Path(str(distribution.locate_file(file))).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue


def _size(location: str) -> int | None:
    try:
        return os.stat(location).st_size
    except OSError:
        return None


def stdlib_fingerprint(source: StdlibSource) -> str:
    """Changes with the Python version and with the names and sizes of the library's files."""
    return digest([platform.python_version(), *([file.path, file.size] for file in stdlib_files(source) if not file.path.endswith(".pyc"))])


def distributions_fingerprint(source: DistributionsSource) -> str:
    """Changes with the installed distributions, their versions and the hashes their RECORDs state."""
    return digest([[d.metadata["Name"], d.version, d.read_text("RECORD") or ""] for d in installed_distributions(source)])


FILES: dict[str, Callable[..., Iterator[InstalledFile]]] = {"stdlib": stdlib_files, "distributions": distribution_files}
