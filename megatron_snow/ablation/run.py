"""Runs the units of a study: one after the other here, several at once in processes of their own, or each as a task of a Slurm array.

Nothing is kept but the artefacts. A unit goes through its road and makes what is not done, holding the artefact's folder meanwhile
(``store.held``); killed at any moment, the same command goes on with the same bytes, as a road's arrows do. So the three
ways of running need no coordinator, and may be mixed on one folder that their machines share (its file system must know flock).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from megatron_snow.ablation.arms import Unit
from megatron_snow.ablation.estimate import Estimates
from megatron_snow.ablation.store import Roads, held
from megatron_snow.artifacts.errors import LostRank, SnowError, Stopped
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.units import format_seconds
from megatron_snow.recipe.drive import drive
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road

_PER_ARM = ("train", "convert", "evaluate")  # what each run has of its own; data arrows are made before several start at once
_POLL = 0.2  # seconds between looks at the processes (ours)


class Board:
    """Where the whole stands: artefacts and runs done, time left. Each artefact counts once, however many arms use it."""

    def __init__(self, base: Recipe, units: Sequence[Unit], roads: Sequence[Road], jobs: int = 1) -> None:
        self._base = base
        self._pairs = list(zip(units, roads, strict=True))
        self._jobs = jobs
        self._done: set[str] = set()
        self._said: tuple[int, int] = (-1, -1)

    def show(self) -> None:
        """One line, where something was finished since the last."""
        left: dict[str, float] = {}
        unknown = finished = 0
        estimates = Estimates.of(self._base, ((unit.recipe, road) for unit, road in self._pairs))
        for unit, road in self._pairs:
            whole = True
            for stage in road.stages.values():
                if stage.folder not in self._done and road.status(stage.name).state == "done":
                    self._done.add(stage.folder)
                if stage.folder in self._done:
                    continue
                whole = False
                if stage.folder not in left:
                    seconds, _ = estimates.seconds(stage, unit.recipe)
                    left[stage.folder] = seconds or 0.0
                    unknown += seconds is None
            finished += whole
        if (now := (len(self._done), finished)) == self._said:
            return
        self._said = now
        eta = f"ETA {format_seconds(sum(left.values()) / self._jobs)}" + (f" and {unknown} artefacts of unknown time" if unknown else "")
        say(f"study: {len(self._done)}/{len(self._done) + len(left)} artefacts, {finished}/{len(self._pairs)} runs, {eta if left else 'all done'}")


def run_here(base: Recipe, units: Sequence[Unit], roads: Roads, before: Callable[[Unit, Road], None]) -> None:
    """Run units in this process, one after the other; ``before`` may refuse one that could not be finished.

    Raises:
        Stopped: at once, where a signal ended a training.
        SnowError: after the last, naming each unit that failed and why; the others are done. LostRank where all of those lost a process.
    """
    made = [roads.road(unit.recipe) for unit in units]
    for unit, road in zip(units, made, strict=True):
        before(unit, road)
    board = Board(base, units, made)
    failed: dict[str, SnowError] = {}  # folder or unit -> why
    broken: list[tuple[str, SnowError]] = []
    for unit, road in zip(units, made, strict=True):
        board.show()
        for name in road.stages:
            folder = road.folder(name)
            error = failed.get(str(folder)) or _make(unit, road, name)
            if error:
                failed[str(folder)] = error
                broken.append((f"{unit.name} ({name})", error))
                break
            board.show()
        roads.link(unit, road)
    _complain(broken)


def run_shared(units: Sequence[Unit], roads: Roads) -> None:
    """Make the data arrows of all units, those that runs at once would wait for. Raises SnowError as ``run_here``."""
    broken: list[tuple[str, SnowError]] = []
    tried: dict[str, SnowError | None] = {}
    for unit in units:
        road = roads.road(unit.recipe)
        for name, stage in road.stages.items():
            if stage.arrow in _PER_ARM:
                continue
            if stage.folder not in tried:
                tried[stage.folder] = _make(unit, road, name)
                if error := tried[stage.folder]:
                    broken.append((f"{unit.name} ({name})", error))
            if tried[stage.folder]:
                break
    _complain(broken)


def _make(unit: Unit, road: Road, name: str) -> SnowError | None:
    """Make one artefact where it is not done; what went wrong, if that was the user's to mend."""
    if road.status(name).state == "done":
        return None
    try:
        with held(road.folder(name), unit.name):
            say(f"-- {unit.name}: {name}")
            drive(road, [name])
    except Stopped:
        raise
    except SnowError as error:
        say(f"-- {unit.name}: {name} failed: {error}")
        return error
    return None


def _complain(broken: Sequence[tuple[str, SnowError]]) -> None:
    if broken:
        kind = LostRank if all(isinstance(error, LostRank) for _, error in broken) else SnowError
        raise kind(f"{len(broken)} run(s) could not be finished; the others are:\n" + "\n".join(f"  {name}: {error}" for name, error in broken))


def run_at_once(base: Recipe, units: Sequence[Unit], roads: Roads, command: Callable[[Unit], list[str]], jobs: int) -> None:
    """Run units in ``jobs`` processes at a time, each on its share of the cores and GPUs; ``command`` starts a unit's. Output goes to ``log/``.

    Raises SnowError as ``run_here``.
    """
    run_shared(units, roads)
    board = Board(base, units, [roads.road(unit.recipe) for unit in units], jobs)
    waiting, broken = list(units), []
    slots: dict[int, tuple[Unit, subprocess.Popen]] = {}
    with _forwarding(slots) as stopping:
        while (waiting and not stopping) or slots:
            for slot in range(jobs):
                if slot not in slots and waiting and not stopping:
                    unit = waiting.pop(0)
                    slots[slot] = (unit, _start(unit, roads, command(unit), slot, jobs))
            time.sleep(_POLL)
            for slot, (unit, process) in list(slots.items()):
                if (code := process.poll()) is not None:
                    del slots[slot]
                    roads.link(unit, roads.road(unit.recipe))
                    if code:
                        broken.append((unit.name, _what_it_said(unit, roads, code)))
                    board.show()
    if stopping:
        raise Stopped(f"a signal ended the study; what was done is saved, {len(waiting) + len(broken)} run(s) are left: run the same command again")
    _complain(broken)


def _log(unit: Unit, roads: Roads) -> Path:
    return roads.out / "log" / f"{unit.arm}-seed-{unit.seed}.log"


def _start(unit: Unit, roads: Roads, command: list[str], slot: int, jobs: int) -> subprocess.Popen:
    log = _log(unit, roads)
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"-- {unit.name} starts; its output goes to {log}")
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | _gpus(slot, jobs))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process.pid, set(cores[slot::jobs]) or {cores[slot % len(cores)]})  # before it has started threads
    return process


def _gpus(slot: int, jobs: int) -> dict[str, str]:
    """A process's share of the GPUs, where there are any to share."""
    from megatron_snow.parallel.backend import has_cuda_driver

    if not has_cuda_driver():
        return {}
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible[slot::jobs] or [visible[slot % len(visible)]])}


def _what_it_said(unit: Unit, roads: Roads, code: int) -> SnowError:
    """A failed process's last line, as an error of its kind."""
    log = _log(unit, roads)
    lines = log.read_text(errors="replace").strip().splitlines()
    message = f"exit code {code}, {lines[-1] if lines else 'nothing said'} ({log})"
    return LostRank(message) if code == LostRank.exit_code or code < 0 else SnowError(message)


@contextmanager
def _forwarding(slots: dict[int, tuple[Unit, subprocess.Popen]]) -> Iterator[list[int]]:
    """Pass stop signals on to the processes, which save and end; the list holds the signals that came."""
    came: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for _, process in slots.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command_of(study: Path, roads: Roads, scale: str, overrides: Sequence[str]) -> Callable[[Unit], list[str]]:
    """The command line that runs one unit in a process of its own."""

    def build(unit: Unit) -> list[str]:
        options = [word for override in overrides for word in ("--set", override)]
        chosen = ["--only", unit.arm, "--seeds", str(unit.seed)]
        places = ["--out", str(roads.out), *(("--store", str(roads.store)) if roads.store else ())]
        return [sys.executable, "-m", "megatron_snow", "ablate", str(study), *places, "--scale", scale, *options, *chosen, "--no-results"]

    return build
