"""One stage of the road: an arrow applied once, with its state on disk.

A stage is *done* when its artefact's key equals the key of what would be made now; then it is skipped. Otherwise it is
*stale* (with the reason), *partial* (a killed run of the same key can go on), *missing*, or *damaged*: a file that its manifest
names is gone or of another size. What was made of a damaged artefact before stays done; what is not made yet waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.integrity import Verified, complaint
from megatron_snow.artifacts.manifest import Manifest, read_manifest
from megatron_snow.artifacts.publish import Building, work_folder

State = Literal["done", "stale", "partial", "missing", "waiting", "damaged"]


@dataclass(frozen=True)
class Stage:
    """An arrow and what it depends on.

    ``run(inputs, work)`` gets the folders of the input stages by name and writes below ``work``; its result is counts.
    ``external`` names fingerprints of inputs that are no stage (source folders, a given tokenizer).
    """

    name: str
    arrow: str
    folder: str
    version: int
    settings: dict[str, Any]
    run: Callable[[Mapping[str, Path], Path], dict[str, Any]]
    inputs: tuple[str, ...] = ()
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Input -> the folders of it that are read, where that is not all of it: a change of the others redoes nothing here."""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Folder of this artefact -> the inputs (or ``input/part``) that it alone is made of, where parts of it are read (``reads``)."""
    phase: str | None = None
    external: Callable[[], dict[str, str]] = field(default=dict)
    keeps: tuple[str, ...] = ()
    """Files that outlive an unfinished run with other settings (``artifacts.publish``)."""
    budget: int | None = None
    """Seconds the recipe allows for it, for the plan."""


@dataclass(frozen=True)
class Status:
    """Where a stage stands, and why."""

    state: State
    why: str
    manifest: Manifest | None = None


class Road:
    """The stages of a recipe in order, in one output folder."""

    def __init__(self, stages: list[Stage], out: Path, seed: int) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.out, self.seed = out, seed
        self.verified = Verified(out)
        self._external: dict[str, dict[str, str]] = {}

    def folder(self, name: str) -> Path:
        """Where the artefact of a stage is published."""
        return self.out / self.stages[name].folder

    def building(self, stage: Stage) -> Building:
        """The artefact a stage would make now. Raises SnowError where an input is missing."""
        inputs = {read: found for name in stage.inputs for read, found in self._fingerprints(name, stage).items()} | self._externals(stage)
        return Building(self.folder(stage.name), stage.arrow, stage.version, stage.settings, self.seed, inputs, stage.keeps)

    def _externals(self, stage: Stage) -> dict[str, str]:
        """Fingerprints of what lies outside the road, taken once a run: scanning source folders takes seconds."""
        if stage.name not in self._external:
            self._external[stage.name] = stage.external()
        return self._external[stage.name]

    def _fingerprints(self, name: str, stage: Stage) -> dict[str, str]:
        """Of an input, or of each part of it that is read."""
        manifest = read_manifest(self.folder(name))
        if manifest is None:
            raise SnowError(f"{stage.name} needs {self.folder(name)}, which is not there; run `snow {self.stages[name].arrow}` first, or `snow run` for all")
        return {read: manifest.fingerprint_read(read) for read in ([f"{name}/{part}" for part in stage.reads[name]] if name in stage.reads else [name])}

    def status(self, name: str) -> Status:
        """Where a stage stands. A stage whose inputs are not done waits for them."""
        return self._status(name, {})

    def statuses(self) -> dict[str, Status]:
        """Where every stage stands, each looked at once."""
        known: dict[str, Status] = {}
        for name in self.stages:
            self._status(name, known)
        return known

    def _status(self, name: str, known: dict[str, Status]) -> Status:
        if name not in known:
            known[name] = self._look(name, known)
        return known[name]

    def _look(self, name: str, known: dict[str, Status]) -> Status:
        stage = self.stages[name]
        manifest = read_manifest(self.folder(name))
        states = {other: self._status(other, known).state for other in stage.inputs}
        if unready := [other for other, state in states.items() if state not in ("done", "damaged")]:
            return Status("waiting", _after(unready), manifest)
        try:
            building = self.building(stage)
        except SnowError as error:  # a source that is not there yet: the plan says so, making it fails with the same words
            return Status("waiting", str(error), manifest)
        if manifest is not None and manifest.key == building.key:
            if fault := self.verified.lost(self.folder(name), manifest):
                return Status("damaged", complaint(fault, self.folder(name), self._again(name)), manifest)
            return Status("done", f"{manifest.seconds:.0f} s on {manifest.started[:10]}", manifest)
        if unready := [other for other, state in states.items() if state == "damaged"]:
            return Status("waiting", _after(unready), manifest)
        key_file = building.work / "KEY"
        if key_file.exists() and key_file.read_text() == building.key:
            return Status("partial", "a killed run goes on", manifest)
        if manifest is None:
            return Status("missing", "never run")
        return Status("stale", _difference(manifest, building, stage), manifest)

    def make(self, name: str) -> Manifest:
        """Run one stage and publish its artefact; adopts what a killed run finished. Raises SnowError where inputs are not done."""
        stage = self.stages[name]
        for other in (name, *stage.inputs):
            status = self.status(other)
            if status.state == "damaged":  # not made again of itself: what is gone may be on a disk that is not there today
                raise SnowError(status.why)
            if other != name and status.state != "done":
                raise SnowError(
                    f"{name} stands on {other}, which is {status.state} ({status.why}); run `snow {self.stages[other].arrow}` first, or `snow run` for all"
                )
        for other in stage.inputs:
            self.verified.check(self.folder(other), self._again(other))
        building = self.building(stage).open()
        adopted = building.finished
        if not adopted:
            building.counts = stage.run({other: self.folder(other) for other in stage.inputs}, building.work)
        manifest = building.publish()
        if not adopted:  # what a killed run hashed was out of our sight since
            self.verified.remember(self.folder(name))
        return manifest

    def _again(self, name: str) -> str:
        return f"run `snow {self.stages[name].arrow}` again"

    def take_part(self, name: str) -> None:
        """Run a stage that another process makes, in the folder that it opened; publishes nothing."""
        stage = self.stages[name]
        stage.run({other: self.folder(other) for other in stage.inputs}, work_folder(self.folder(name)))


def _after(unready: list[str]) -> str:
    return f"after {unready[0]}" + (f" and {len(unready) - 1} more" if unready[1:] else "")


def _difference(manifest: Manifest, building: Building, stage: Stage) -> str:
    """Why an artefact's key is not today's, for people."""
    changed = [f"input {name}" for name in sorted(manifest.inputs.keys() | building.inputs.keys()) if manifest.inputs.get(name) != building.inputs.get(name)]
    changed += [f"setting {path}" for path in _changed_paths(manifest.settings, stage.settings)]
    if manifest.seed != building.seed:
        changed.append("seed")
    if manifest.arrow_version != stage.version:
        changed.append("the arrow's version")
    if manifest.arrow != stage.arrow:
        return f"it is what the arrow {manifest.arrow} made, copied here"
    return "changed: " + ", ".join(changed or ["its manifest, by hand: its key is not that of what it says"])


def _changed_paths(old: Any, new: Any, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [path for key in sorted(old.keys() | new.keys()) for path in _changed_paths(old.get(key), new.get(key), f"{prefix}{key}.")]
    return [] if old == new else [prefix.rstrip(".")]
