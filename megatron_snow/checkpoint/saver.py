"""Saving while training goes on: copy to host memory, write in a thread, publish when every rank has written.

The training's process only waits for the copy (and, where saves follow each other faster than they are written, for
the save before). What the thread meets is not lost: ``failed`` says between steps that there is something, ``finish``
raises it, the same on every rank. A process that dies meanwhile leaves a folder that is no checkpoint.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.host_copy import HostCopy
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.shards import Shard, model_shards, optimizer_settings, optimizer_shards
from megatron_snow.checkpoint.store import Description, begin, clear_leftovers, prune, publish, saving_folder
from megatron_snow.checkpoint.writing import WrittenFile, write_metadata, write_shards
from megatron_snow.parallel.background import SideChannel
from megatron_snow.parallel.groups import Place

_OK = b"ok"
_MENDABLE = b"mendable "


class Saver:
    """The checkpoints of a training folder. Every rank makes one, after the groups are open, and calls the same methods in the same order."""

    def __init__(self, training: Path, chunks: list[Any], optimizer: Any, settings: CheckpointSettings, place: Place, timeout_seconds: float) -> None:
        """``chunks`` are the bare GPTModels of this rank, without DDP and precision wrappers; ``timeout_seconds`` bounds the wait for other ranks' disks."""
        self.training, self.settings, self.place = training, settings, place
        self._chunks, self._optimizer = chunks, optimizer
        self._channel = SideChannel(timeout_seconds)
        self._copy = HostCopy()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._step = 0
        self.seconds = 0.0
        """How long the last finished save took, from the call to its publication; 0 before the first."""
        if place.leader:
            clear_leftovers(training)

    def begin(self, description: Description) -> None:
        """Save model and optimizer as the checkpoint of ``description.step``; returns when training may go on.

        Raises:
            SnowError: what the save before met, or that the host lacks the memory for a copy.
        """
        self.finish()
        shards = [list(model_shards(self._chunks)), list(optimizer_shards(self._chunks, self._optimizer))]
        common = {"optimizer": optimizer_settings(self._optimizer)}
        copied: Callable[[], None] = lambda: None  # noqa: E731
        if self.settings.asynchronous:
            copies, copied = self._copy.take(shards[0] + shards[1])
            shards = [copies[: len(shards[0])], copies[len(shards[0]) :]]
        self._step = description.step
        self._thread = threading.Thread(target=self._save, args=(description, shards, common, copied, time.monotonic()), daemon=True)
        self._thread.start()
        if not self.settings.asynchronous:
            self.finish()

    @property
    def busy(self) -> bool:
        """Whether a save is being written."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether a save has failed of which ``finish`` has not told yet. Ranks may learn it a step apart: agree before acting on it."""
        return self._error is not None

    def finish(self) -> None:
        """Wait until the save under way is published.

        Raises:
            SnowError: where a disk is full or gone, on any rank; the checkpoint before it is untouched.
            RuntimeError: with the traceback of anything else.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _save(self, description: Description, shards: list[list[Shard]], common: dict[str, Any], copied: Callable[[], None], began: float) -> None:
        try:
            copied()
            self._write(description, shards, common)
            self.seconds = time.monotonic() - began
        except Exception as error:
            self._error = error

    def _write(self, description: Description, shards: list[list[Shard]], common: dict[str, Any]) -> None:
        """The save itself, in its thread; the same error on every rank."""
        saving = saving_folder(self.training, description.step)
        if self.place.leader:
            made, _ = _attempt(lambda: begin(self.training, description.step))
            self._agreed(made)
        else:
            self._agreed(_OK)
        names = [f"__{self.place.rank}_{kind}.distcp" for kind in range(2)]
        answer, files = _attempt(lambda: [write_shards(saving, name, part) for name, part in zip(names, shards, strict=True) if part])
        report = {"error": None if answer == _OK else answer.decode(), "files": [file.model_dump() for file in files or []]}
        answers = [orjson.loads(one) for one in self._channel.gather(orjson.dumps(report))]
        self._agreed(self._publish(saving, description, answers, common) if self.place.leader else _OK)

    def _publish(self, saving: Path, description: Description, answers: list[dict[str, Any]], common: dict[str, Any]) -> bytes:
        for rank, answer in enumerate(answers):
            if answer["error"] is not None:
                return f"{answer['error']} (rank {rank})".encode()
        files = [WrittenFile.model_validate(file) for answer in answers for file in answer["files"]]

        def whole() -> None:
            publish(saving, self.training, description, write_metadata(saving, files, common))
            prune(self.training, self.settings.keep, self.settings.keep_every)

        return _attempt(whole)[0]

    def _agreed(self, message: bytes) -> None:
        """Raise on every rank what rank 0 says went wrong."""
        verdict = self._channel.broadcast(message)
        if verdict == _OK:
            return
        text = verdict.decode()
        if verdict.startswith(_MENDABLE):
            cause = text.removeprefix(_MENDABLE.decode())
            raise SnowError(f"the checkpoint of step {self._step} could not be written: {cause}; the one before it is untouched: mend that and run again")
        raise RuntimeError(f"saving step {self._step} failed:\n{text}")


def _attempt(work: Callable[[], Any]) -> tuple[bytes, Any]:
    """(``ok``, result), or (what went wrong, None): a disk's error is the user's to mend, anything else a bug with its traceback."""
    try:
        return _OK, work()
    except OSError as error:
        return _MENDABLE + f"{os.strerror(error.errno) if error.errno else error} at {error.filename or 'its folder'}".encode(), None
    except Exception:
        return traceback.format_exc().encode(), None
