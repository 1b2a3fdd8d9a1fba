"""The arms' roads on one store of artefacts: what several arms have in common is made once.

Every artefact of a study lies in ``<out>/store/<arrow>/<lineage>``, or below a store that several studies are given. A stage's lineage is the
digest of what it is made from: its arrow and version, its settings, the road's seed, fingerprints of what lies outside (sources, given
models), and its inputs' lineages. All of that is known before anything runs, and two arms agree on a stage's lineage exactly where everything
that it reads is the same (a first phase on the standard tier, whoever chose the high-quality one): then they share the folder, and whoever
comes first makes it. In the folder the road's own rule holds on: the artefact's key, which covers the bytes of its inputs, decides whether
it is done, stale, partial or missing (``recipe.stage``).

An arm with a seed also has a folder of links, ``<out>/arms/<arm>/seed-<n>/``, laid out as a road of its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from megatron_snow.ablation.arms import Unit
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.settings import digest
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road, Stage

_LENGTH = 16  # hexadecimal digits of a lineage in a folder's name (ours: 64 bits; a study has hundreds of artefacts)

External = dict[str, dict[str, str]]


class Roads:
    """The roads of a study's units in one output folder; artefacts in ``store``, else in it too. Fingerprints of sources are taken once for all arms."""

    def __init__(self, out: Path, store: Path | None = None) -> None:
        self.out = out
        self.store = None if store is None else store.absolute()
        self._external: External = {}

    def road(self, recipe: Recipe) -> Road:
        """The road of one unit's recipe: the stages that its last evaluation stands on, each in the store. Raises SnowError where a source is not there."""
        lineages: dict[str, str] = {}
        placed = []
        for stage in self.bare(recipe):
            external = self._of(stage, recipe)
            own = {"arrow": stage.arrow, "version": stage.version, "settings": stage.settings, "seed": recipe.seed, "external": external}
            read = [f"{name}/{part}" for name, parts in stage.reads.items() for part in parts]
            whole = [name for name in stage.inputs if name not in stage.reads]
            lineages[stage.name] = digest(own | {"inputs": {name: lineages[name] for name in (*whole, *read)}})
            for part, inputs in stage.parts.items():
                lineages[f"{stage.name}/{part}"] = digest(own | {"inputs": {name: lineages[name] for name in inputs}})
            folder = str((self.store or Path("store")) / stage.arrow / lineages[stage.name][:_LENGTH])
            placed.append(replace(stage, folder=folder, external=partial(dict, external)))
        return Road(placed, self.out, recipe.seed)

    def bare(self, recipe: Recipe) -> list[Stage]:
        """The stages that the last evaluation stands on, not yet placed in the store."""
        stages = build_road(recipe, self.out).stages
        return needed(stages, [[stage.name for stage in stages.values() if stage.arrow == "evaluate"][-1]])

    def _of(self, stage: Stage, recipe: Recipe) -> dict[str, str]:
        """What lies outside the road. Scanning a corpus's sources takes seconds, so the same settings are not scanned again."""
        section = getattr(recipe, stage.arrow, None)
        # The stage's settings too: what synthesize must not hold is named by the corpus's section and the evaluation's.
        key = digest([stage.name, recipe.seed, section.model_dump(mode="json") if section is not None else None, stage.settings])
        if key not in self._external:
            self._external[key] = stage.external()
        return self._external[key]

    def link(self, unit: Unit, road: Road) -> None:
        """Lay out the unit's finished artefacts as a road of its own: ``arms/<arm>/seed-<n>/<the road's folder>``, as links."""
        folders = {stage.name: stage.folder for stage in build_road(unit.recipe, self.out).stages.values()}
        for name in road.stages:
            link = self.arm(unit) / folders[name]
            if not road.folder(name).is_dir():
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            beside = link.with_name(link.name + ".new")
            beside.unlink(missing_ok=True)
            # relative within one folder, so that a study can be moved with its own store
            beside.symlink_to(road.folder(name) if self.store else os.path.relpath(road.folder(name), link.parent))
            os.replace(beside, link)

    def arm(self, unit: Unit) -> Path:
        """The unit's own folder."""
        return self.out / "arms" / unit.arm / f"seed-{unit.seed}"


def needed(stages: Mapping[str, Stage], wanted: Iterable[str]) -> list[Stage]:
    """The stages that ``wanted`` stand on, themselves included, in the road's order."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += stages[name].inputs
    return [stage for stage in stages.values() if stage.name in found]


@contextmanager
def held(folder: Path, who: str) -> Iterator[None]:
    """Hold one artefact's folder while it is made; where another process makes it, wait until that has ended. The lock dies with its process.

    Raises SnowError where the folder cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = folder.with_name(folder.name + ".lock").open("a+")
    except OSError as error:
        raise SnowError(f"cannot write to {folder.parent}: {error.strerror}; choose another folder with --out or --store") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            say(f"  waiting for {folder.name}, which {handle.read().strip() or 'another run'} is making")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(f"{who} (process {os.getpid()} on {os.uname().nodename})")
        handle.flush()
        yield
