"""What made an artefact: written last, so that a folder with a manifest is a whole artefact."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
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
FORMAT = 2  # of the manifest itself; a reader refuses newer ones. 1 had no sha256 of itself
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
    """Name of each input, or ``input/part`` where only some of its folders are read -> its fingerprint."""
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
    sha256: str | None = None
    """Of the manifest itself, all but this field (``sealed``): an edit by hand shows. None in format 1."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the files' names and contents: unchanged bytes do not disturb what depends on them."""
        return digest({name: entry.sha256 for name, entry in self.files.items()})

    def fingerprint_read(self, name: str) -> str:
        """What another artefact's ``inputs`` say of this one under ``name``: the fingerprint of all files, or of those in the folder that is read."""
        _, _, part = name.partition("/")
        return digest({file: entry.sha256 for file, entry in self.files.items() if file.startswith(f"{part}/")}) if part else self.fingerprint


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
    hashes = hash_files(paths, sizes, f"hashing {folder.name}")
    return {p.relative_to(folder).as_posix(): FileEntry(bytes=size, sha256=h) for p, size, h in zip(paths, sizes, hashes, strict=True)}


def hash_files(paths: Sequence[Path], sizes: Sequence[int], label: str) -> list[str]:
    """sha256 of each file, several at a time, with progress where it takes seconds. ``sizes`` in bytes are what the progress counts."""
    hashes = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, ExitStack() as stack:
        bar = stack.enter_context(Progress(label, sum(sizes), "B")) if sum(sizes) >= _WORTH_A_BAR else None
        for size, found in zip(sizes, pool.map(file_sha256, paths), strict=True):
            hashes.append(found)
            if bar is not None:
                bar.advance(size)
    return hashes


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that shape results, where installed."""
    found = {"python": platform.python_version(), "megatron_snow": megatron_snow.__version__}
    for name in _NAMED_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def sealed(manifest: Manifest) -> bytes:
    """The manifest as it is written: JSON that says the sha256 of all else it says."""
    tree = json.loads(manifest.model_dump_json(exclude={"sha256"}))
    return json.dumps(tree | {"sha256": digest(tree)}, indent=1, ensure_ascii=False).encode()


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a published artefact, or None where there is none.

    Raises SnowError where it may not be read, is damaged, edited since it was written, or written by a newer version.
    """
    path = folder / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise SnowError(f"permission denied at {path}; let this account read {folder}, or run as the one that wrote it") from error
    try:
        tree = json.loads(text)
        newer = isinstance(tree, dict) and isinstance(tree.get("format"), int) and tree["format"] > FORMAT
        manifest = None if newer else Manifest.model_validate_json(text)
    except ValueError as error:  # pydantic's and the JSON reader's
        fields = f" ({error.error_count()} fields do not fit)" if isinstance(error, ValidationError) else ""
        raise SnowError(f"{path} is damaged or from another version{fields}; delete {folder} and run again") from error
    if manifest is None:
        raise SnowError(f"{path} has format {tree['format']}, this version reads up to {FORMAT}; upgrade megatron_snow or delete {folder}")
    if manifest.format >= 2 and tree.pop("sha256", None) != digest(tree):
        raise SnowError(f"{path} was edited or is damaged: its sha256 is not that of what it says; put it back as it was, or delete {folder} and run again")
    return manifest
