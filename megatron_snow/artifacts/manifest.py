"""What made an artefact: written last, so that a folder with a manifest is a whole artefact."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import megatron_snow
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.machine import Machine
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.settings import Settings, digest

NAME = "manifest.json"
_WORTH_A_BAR = 4 * 2**30  # bytes; ours: some seconds of hashing
FORMAT = 1  # of the manifest itself; a reader refuses newer ones
_NAMED_VERSIONS = ("torch", "megatron-core", "transformers", "tokenizers", "datatrove", "numpy", "pydantic", "transformer-engine", "triton")


class FileEntry(Settings):
    """One file of the artefact."""

    bytes: int
    sha256: str


class Manifest(Settings):
    """What an artefact is made of and by; ``fingerprint`` is what depends on it."""

    format: int
    arrow: str
    key: str
    """Hash of settings, inputs' fingerprints and the arrow's version: equal key, same artefact."""
    arrow_version: int
    inputs: dict[str, str]
    """Name of each input -> its fingerprint."""
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    counts: dict[str, Any]
    """What the arrow counted: documents in and out, drops by reason, tokens, steps, ..."""
    started: str
    """UTC, ISO 8601."""
    seconds: float
    files: dict[str, FileEntry]
    machine: Machine | None = None
    """Where it was published; None in artefacts from before this was written down."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the files' names and contents: unchanged bytes do not disturb what depends on them."""
        return digest({name: entry.sha256 for name, entry in self.files.items()})


def artefact_key(arrow: str, arrow_version: int, settings: dict[str, Any], seed: int, inputs: dict[str, str]) -> str:
    """The key under which an arrow's work counts as the same work."""
    return digest({"arrow": arrow, "version": arrow_version, "settings": settings, "seed": seed, "inputs": inputs})


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path, besides: tuple[str, ...] = ()) -> dict[str, FileEntry]:
    """Every regular file below ``folder`` (but the manifest and ``besides``) with size and hash, sorted by name."""
    skipped = {folder / name for name in (NAME, *besides)}
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p not in skipped)
    sizes = [path.stat().st_size for path in paths]
    hashes = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, ExitStack() as stack:
        bar = stack.enter_context(Progress(f"hashing {folder.name}", sum(sizes), "B")) if sum(sizes) >= _WORTH_A_BAR else None
        for size, found in zip(sizes, pool.map(file_sha256, paths), strict=True):
            hashes.append(found)
            if bar is not None:
                bar.advance(size)
    return {p.relative_to(folder).as_posix(): FileEntry(bytes=size, sha256=h) for p, size, h in zip(paths, sizes, hashes, strict=True)}


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that shape results, where installed."""
    found = {"python": platform.python_version(), "megatron_snow": megatron_snow.__version__}
    for name in _NAMED_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_sizes(folder: Path, remedy: str) -> None:
    """Look whether every file of an artefact is there with the size its manifest gives: what a cut copy or an editor spoils first.

    Raises SnowError naming the first that is not, with ``remedy``.
    """
    manifest = read_manifest(folder)
    for name, entry in (manifest.files if manifest is not None else {}).items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            raise SnowError(f"{folder / name} is missing, its manifest names it: delete {folder} and {remedy}") from None
        if size != entry.bytes:
            raise SnowError(f"{folder / name} has {size:,} bytes, its manifest says {entry.bytes:,}: cut short or edited; delete {folder} and {remedy}")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a published artefact, or None where there is none.

    Raises SnowError where it is damaged or written by a newer version.
    """
    path = folder / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise SnowError(f"{path} is damaged or from another version ({error.error_count()} fields do not fit); delete {folder} and run again") from error
    if manifest.format > FORMAT:
        raise SnowError(f"{path} has format {manifest.format}, this version reads up to {FORMAT}; upgrade megatron_snow or delete {folder}")
    return manifest
