"""Arrows in processes that can be killed at any moment: forked from a server that has imported what arrows import, so that a start costs little."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.recipe.drive import drive, open_road
from megatron_snow.recipe.stage import Road

_IMPORTED = [
    "torch",
    "transformers",
    "datatrove.executor.local",
    "pyarrow.parquet",
    "sklearn.metrics",
    "aiohttp",
    "megatron_snow.recipe.drive",
    "megatron_snow.corpus.steps",
    "megatron_snow.corpus.engine",
    "megatron_snow.quality.encoder",
    "megatron_snow.quality.scoring",
    "megatron_snow.quality.head",
    "megatron_snow.quality.validation",
    "megatron_snow.synthesis.arrow",
    "megatron_snow.tokens.shards",
    "megatron_snow.training.phase",
    "megatron_snow.convert.export",
    "megatron_snow.evaluation.arrow",
    "megatron_snow.report.page",
]
FRESH_IN_METRICS = ("seconds", "tokens_per_second", "memory", "mfu")  # of a row: they say how the machine was, not what was trained


def _run(recipe: Path, overrides: Sequence[str], out: Path, stages: Sequence[str], log: Path, begun: Connection) -> None:
    """In the child: what ``snow run`` does for these stages, under the output folder's lock; says when it has it."""
    from megatron_snow.artifacts.publish import exclusive

    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    _, road = open_road(recipe, overrides, out)
    with exclusive(road.out):
        begun.send(None)
        drive(road, stages)


@dataclass
class Killer:
    """Runs stages of a road and kills them."""

    recipe: Path
    out: Path
    random: random.Random
    overrides: tuple[str, ...] = ()

    @property
    def road(self) -> Road:
        """The road as it is now."""
        return open_road(self.recipe, self.overrides, self.out)[1]

    def run(self, stages: Sequence[str], seconds: float | None = None) -> float | None:
        """Run stages, killed ``seconds`` after the work began; returns how long it took, None where they were killed. Fails with the log where they fail."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        log = self.out.parent / "log"
        hears, says = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(self.recipe, self.overrides, self.out, list(stages), log, says))
        process.start()
        wait([hears, process.sentinel])  # a blow while the recipe is read strikes no arrow
        start = time.monotonic()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            return None
        assert process.exitcode == 0, log.read_text()[-6000:]
        return time.monotonic() - start

    def kill_arrow(self, stage: str, kills: int, guess: float) -> None:
        """Make a stage, killed ``kills`` times at random moments of what its run takes (``guess`` seconds at first); then let it end."""
        longest, killed = guess, 0
        while killed < kills:
            took = self.run([stage], self.random.uniform(0, longest))
            if took is None:
                killed += 1
                continue
            longest = min(longest, took)  # over before the blow: start anew, and strike sooner
            with suppress(FileNotFoundError):
                shutil.rmtree(self.road.folder(stage))
        self.run([stage])


def content(folder: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """What an artefact holds, file by file: sha256, or for files that tell the time what is left of them without it."""
    manifest = read_manifest(folder)
    assert manifest is not None, f"no manifest in {folder}"
    found: dict[str, Any] = {name: entry.sha256 for name, entry in manifest.files.items() if names is None or name in names}
    for name in found:
        if name == "metrics.jsonl":
            rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            found[name] = [{key: value for key, value in row.items() if key not in FRESH_IN_METRICS} for row in rows]
        elif name == "summary.json" and manifest.arrow == "train":
            found[name] = {key: value for key, value in json.loads((folder / name).read_text()).items() if key not in FRESH_IN_METRICS}
    return found
