"""Opens a recipe's road and runs what is not done."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.units import format_count, format_seconds
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road

if TYPE_CHECKING:
    from megatron_snow.training.crew import Crew

# What the operating system says when it is the user's disk or permissions, not a bug of ours.
_USERS_ERRNOS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
}


def open_road(recipe_path: Path, overrides: Sequence[str], out: Path | None, crew: Crew | None = None) -> tuple[Recipe, Road]:
    """The checked recipe and its road below ``out`` (``out/<name>`` by default); ``crew`` trains it where it is given."""
    recipe = load_recipe(recipe_path, overrides)
    return recipe, build_road(recipe, out or Path("out") / recipe.name, crew)


def drive(road: Road, names: Sequence[str]) -> None:
    """Make the named stages in order, skipping those that are done. Raises SnowError where one cannot be made."""
    for name in names:
        status = road.status(name)
        if status.state == "done":
            say(f"[{name}] done before ({status.why})")
            continue
        budget = road.stages[name].budget
        say(f"[{name}] {status.state}: {status.why}" + (f"; budget {format_seconds(budget)}" if budget else ""))
        start = time.monotonic()
        try:
            manifest = road.make(name)
        except OSError as error:
            if error.errno in _USERS_ERRNOS:
                raise SnowError(
                    f"[{name}] {_USERS_ERRNOS[error.errno]} at {error.filename or road.out}; mend that and run again: it goes on from here"
                ) from error
            raise
        say(f"[{name}] finished in {format_seconds(time.monotonic() - start)}: {_brief(manifest.counts)}")
        if status.manifest is not None and (changed := _changes(status.manifest.counts, manifest.counts)):
            say(f"[{name}] against the artefact it replaces: {changed}")


def follow(road: Road, crew: Crew) -> None:
    """On ranks other than the leader: take part in what the leader, who drives, cannot make alone, until it says that all is done."""
    while (name := crew.hear()) is not None:
        road.take_part(name)


def _brief(counts: dict[str, Any]) -> str:
    """The plain numbers among an arrow's counts, on one line."""
    shown = [f"{key.replace('_', ' ')} {format_count(value) if isinstance(value, int) else f'{value:.4g}'}" for key, value in counts.items()
             if isinstance(value, int | float) and not isinstance(value, bool)]  # fmt: skip
    return ", ".join(shown) or "no counts"


def _changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The whole numbers among an arrow's counts that are others than before, one level down too."""
    found = []
    for key in after:
        pairs = {key: (before.get(key), after[key])}
        if isinstance(after[key], dict) and isinstance(before.get(key), dict):
            pairs = {f"{key} {name}": (before[key].get(name, 0), after[key].get(name, 0)) for name in {**before[key], **after[key]}}
        found += [
            f"{name.replace('_', ' ')} {old:,} -> {new:,}"
            for name, (old, new) in pairs.items()
            if isinstance(old, int) and isinstance(new, int) and not isinstance(new, bool) and old != new
        ]
    return ", ".join(found)


def summary(recipe: Recipe, road: Road) -> str:
    """What a run ends with: times against budget, where model and report are, a few completions of the last model."""
    last = list(recipe.train.phases)[-1]
    lines = ["", "Time of each arrow (its budget):"]
    total = 0.0
    for name, stage in road.stages.items():
        manifest = road.status(name).manifest
        if manifest:
            total += manifest.seconds
            lines.append(f"  {name:<22} {format_seconds(manifest.seconds):>12}" + (f"  ({format_seconds(stage.budget)})" if stage.budget else ""))
    lines.append(f"  {'all':<22} {format_seconds(total):>12}" + (f"  ({format_seconds(sum(recipe.budget.values()))})" if recipe.budget else ""))
    results = json.loads((road.folder(f"evaluate {last}") / "results.json").read_text())
    for item in results["completions"]:
        lines += ["", *(f"  | {line}" for line in (item["prompt"] + item["completion"]).rstrip().splitlines()[:12])]
    lines += ["", f"Model:  {road.folder(f'convert {last}')}", f"Report: {road.folder('report') / 'report.html'}"]
    return "\n".join(lines)
