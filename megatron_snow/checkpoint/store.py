"""Checkpoint folders: ``<training>/checkpoints/step-00000120``, each whole or absent.

A save goes into ``.step-00000120.saving`` and is renamed when every byte is on disk and ``checkpoint.json`` (written
last, with the size and sha256 of every file, and its own) says so. A killed save leaves a folder that nobody takes for
a checkpoint and the next run clears away.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import FileEntry, file_sha256, list_files
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import Settings, digest
from megatron_snow.artifacts.units import Duration
from megatron_snow.model.settings import ModelSettings, shape
from megatron_snow.parallel.settings import Layout

DESCRIPTION = "checkpoint.json"
FORMAT = 2  # of the folder; a reader refuses others (1 had no checksum of checkpoint.json)
_NAME = re.compile(r"step-(\d{8})")


class History(Settings):
    """What of the steps before decides about later ones (``training.anomalies``)."""

    losses: tuple[float, ...] = ()
    """Of the last good steps, oldest first."""
    skipped: int = 0
    """Steps left out in a row, up to here."""
    roll_backs: int = 0
    """In this phase so far."""


class Description(Settings):
    """What a checkpoint is; ``checkpoint.json`` holds it."""

    format: int
    phase: str
    step: int
    tokens: int
    """Tokens trained in this phase so far."""
    model: ModelSettings
    vocabulary: int
    """Rows of the embedding: the tokenizer's vocabulary padded to ``model.vocabulary_multiple``."""
    sequence: int
    precision: str
    """What the model's weights are stored in: ``bf16``, ``fp32`` (fp8 keeps bf16 weights)."""
    layout: Layout
    """The layout it was saved under; any other can load it."""
    seed: int
    history: History = History()
    files: dict[str, FileEntry] = {}  # noqa: RUF012 - settings are frozen
    """Every file of the folder; filled in when it is published."""
    sha256: str = ""
    """Over all of the above; filled in when it is published."""

    def checksum(self) -> str:
        """What ``sha256`` must be."""
        return digest(self.model_dump(mode="json", exclude={"sha256"}))


def step_folder(training: Path, step: int) -> Path:
    """Where the checkpoint of a step belongs."""
    return training / "checkpoints" / f"step-{step:08d}"


def saving_folder(training: Path, step: int) -> Path:
    """Where the checkpoint of a step is written before it is whole."""
    folder = step_folder(training, step)
    return folder.with_name(f".{folder.name}.saving")


def checkpoints(training: Path) -> list[Path]:
    """The whole checkpoints of a training folder, oldest first."""
    found = [path for path in (training / "checkpoints").glob("step-*") if _NAME.fullmatch(path.name) and (path / DESCRIPTION).is_file()]
    return sorted(found)


def latest(training: Path) -> Path | None:
    """The newest whole checkpoint of a training folder, or None."""
    found = checkpoints(training)
    return found[-1] if found else None


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint a user's path names: one ``step-*`` folder, or the newest whole one of a training folder; None where that has none."""
    return path if _NAME.fullmatch(path.name) else latest(path)


def read_description(folder: Path) -> Description:
    """What the checkpoint in ``folder`` is.

    Raises:
        SnowError: where there is no whole checkpoint, the description is damaged, or a newer version wrote it.
    """
    path = folder / DESCRIPTION
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SnowError(f"{folder} is not a whole checkpoint of megatron_snow (it has no {DESCRIPTION}); name a step-* folder below checkpoints/") from None
    _check_format(folder, text)
    try:
        description = Description.model_validate_json(text)
    except ValidationError as error:
        raise SnowError(f"{path} is damaged or from another version ({error.error_count()} fields do not fit); use an older checkpoint") from error
    if description.sha256 != description.checksum():
        raise SnowError(f"{path} is not what was saved (sha256 differs): it is damaged; delete {folder} to use the checkpoint before it")
    return description


def refuse_other_model(folder: Path, found: Description, model: ModelSettings, vocabulary: int) -> None:
    """Refuse a checkpoint of another model than ``model`` with ``vocabulary`` (padded) rows. Raises SnowError naming each difference."""
    old, new = shape(found.model), shape(model)
    differences = [f"model.{name} {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]
    if found.vocabulary != vocabulary:
        differences.append(f"padded vocabulary {found.vocabulary} -> {vocabulary}")
    if differences:
        raise SnowError(f"checkpoint {folder} is of another model ({', '.join(differences)}): train from its own settings, or start afresh in another folder")


def _check_format(folder: Path, text: bytes) -> None:
    """Look at the format before anything else: another version's description has other fields."""
    try:
        found = json.loads(text)["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise SnowError(f"{folder / DESCRIPTION} is damaged or foreign ({type(error).__name__}: {error}); use an older checkpoint") from error
    if found != FORMAT:
        remedy = "upgrade megatron_snow" if isinstance(found, int) and found > FORMAT else "use another checkpoint, or the version that wrote it"
        raise SnowError(f"{folder} has checkpoint format {found}, this version reads {FORMAT}: {remedy}")


def verify(folder: Path, part: int = 0, parts: int = 1, only: Collection[str] | None = None) -> None:
    """Check that the files are those that were saved; of ``parts`` processes each hashes its share, every one checks all sizes.

    ``only`` limits it to the files of these names.

    Raises:
        SnowError: naming the first file that is missing, has another size or another content.
    """
    files = {name: entry for name, entry in read_description(folder).files.items() if only is None or name in only}
    for name in sorted({*(only or ())} - files.keys()):
        raise SnowError(f"checkpoint {folder} does not say that it holds {name}: it is damaged or foreign; use another checkpoint")
    for index, (name, entry) in enumerate(sorted(files.items())):
        path = folder / name
        if not path.is_file():
            raise SnowError(f"checkpoint {folder} lacks {name}: it is damaged; delete the folder to use the checkpoint before it")
        if path.stat().st_size != entry.bytes:
            raise SnowError(f"{path} has {path.stat().st_size} bytes, {entry.bytes} were saved: it is damaged; delete {folder} to use the checkpoint before it")
        if index % parts == part and file_sha256(path) != entry.sha256:
            raise SnowError(f"{path} is not what was saved (sha256 differs): it is damaged; delete {folder} to use the checkpoint before it")


def begin(training: Path, step: int) -> Path:
    """An empty folder to save a step into; what a killed save left there is cleared away."""
    saving = saving_folder(training, step)
    shutil.rmtree(saving, ignore_errors=True)
    saving.mkdir(parents=True)
    return saving


def publish(saving: Path, training: Path, description: Description, files: dict[str, FileEntry] | None = None) -> Path:
    """Describe a finished save (on disk, every byte) and move it into place; returns the checkpoint's folder.

    ``files``: sizes and hashes, where they are known from writing; otherwise everything is read again.
    """
    described = description.model_copy(update={"files": list_files(saving) if files is None else files})
    described = described.model_copy(update={"sha256": described.checksum()})
    write_atomically(saving / DESCRIPTION, described.model_dump_json(indent=1).encode())
    folder = step_folder(training, description.step)
    shutil.rmtree(folder, ignore_errors=True)  # of an older attempt at this step, damaged or abandoned
    _sync_folder(saving)
    os.rename(saving, folder)
    _sync_folder(folder.parent)
    return folder


def prune(training: Path, keep: int, keep_every: Duration | None = None) -> None:
    """Delete all but the newest ``keep`` checkpoints and the first of each ``keep_every``, each invisible before its first file goes."""
    found = checkpoints(training)
    for folder in found[:-keep]:
        if keep_every is None or not _first_of_stretch(folder, found, keep_every):
            _delete(folder)


def _first_of_stretch(folder: Path, found: list[Path], stretch: Duration) -> bool:
    """Whether a checkpoint is the first at or after a multiple of ``stretch``; what cannot be read counts as none."""
    reached = [_stretches(other, stretch) for other in found[: found.index(folder) + 1]]
    return reached[-1] > max([0, *reached[:-1]])


def _stretches(folder: Path, stretch: Duration) -> int:
    try:
        description = read_description(folder)
    except SnowError:
        return 0
    return (description.step if stretch.unit == "steps" else description.tokens) // max(stretch.amount, 1)


def clear_leftovers(training: Path) -> None:
    """Delete what killed saves and killed deletions left; nothing else may be at work in the folder."""
    for pattern in (".step-*.saving", ".step-*.deleting"):
        for folder in (training / "checkpoints").glob(pattern):
            shutil.rmtree(folder)


def _delete(folder: Path) -> None:
    doomed = folder.with_name(f".{folder.name}.deleting")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
