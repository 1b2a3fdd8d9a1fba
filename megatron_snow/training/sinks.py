"""Where metrics are shown beside the JSON-lines files: TensorBoard's event files, Weights & Biases.

Both are optional packages, imported when a run asks for them. On resume nothing is doubled: event files are cut back to
the checkpoint's step as the JSON-lines files are; Weights & Biases, which takes no step twice, is given only steps
that it has not been given.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.training.watch_settings import WandbSettings, WatchSettings

EVENTS = "tensorboard"
_EVENT_FILES = "events.out.tfevents.*"
_WANDB_ID = "wandb.id"


class Sink(Protocol):
    """Takes numbers by name and step."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...
    def flush(self) -> None:
        """Have everything on disk, or on its way."""
        ...

    def close(self) -> None: ...


def check_installed(settings: WatchSettings) -> None:
    """Refuse before training what could not be shown. Raises SnowError naming the package to install."""
    for name, asked in (("tensorboard", settings.tensorboard), ("wandb", settings.wandb is not None)):
        if asked and importlib.util.find_spec(name) is None:
            raise SnowError(f"train.watch.{name} needs the package {name}, which is not installed: pip install {name}, or take it out of the recipe")


def open_sinks(settings: WatchSettings, work: Path, phase: str, step: int, seen: int) -> Iterator[Sink]:
    """What the settings ask for, to be given the steps after ``step``; ``seen`` is the last step that was recorded before, here or beyond it."""
    if settings.tensorboard:
        yield TensorBoard(work / EVENTS, step)
    if settings.wandb is not None:
        yield Wandb(settings.wandb, work, phase, max(step, seen))


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(_EVENT_FILES)):
            cut_back_events(path, step or -1)  # as ``Records``
        self._writer = SummaryWriter(str(folder))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def cut_back_events(path: Path, step: int) -> None:
    """Drop the events after ``step`` from an event file, and a last one cut short by a kill."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    shorter = path.with_name(f".{path.name}.cut")
    with shorter.open("wb") as file:
        writer = RecordWriter(file)
        for record in RawEventFileLoader(str(path)).Load():
            if Event.FromString(record).step <= step:
                writer.write(record)
        writer.flush()
        os.fsync(file.fileno())
    os.replace(shorter, path)


class Wandb:
    """One run of Weights & Biases a phase, gone on with under the same id."""

    def __init__(self, settings: WandbSettings, work: Path, phase: str, seen: int) -> None:
        import wandb

        identity = work / _WANDB_ID
        if not identity.exists():
            write_atomically(identity, uuid.uuid4().hex.encode())
        self._seen = seen
        self._run: Any = wandb.init(
            project=settings.project, entity=settings.entity, mode=settings.mode, name=phase, id=identity.read_text(), dir=str(work),
            resume="allow" if settings.mode == "online" else None,
        )  # fmt: skip

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._seen:
            self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Its own process sends what it was given."""

    def close(self) -> None:
        self._run.finish()
