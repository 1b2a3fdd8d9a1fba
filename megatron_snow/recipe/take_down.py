"""What taking repositories down would change: asked before the tiers are rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_count
from megatron_snow.corpus.takedown import read_take_down
from megatron_snow.lineage.repository import trace_repositories
from megatron_snow.recipe.artefacts import artefacts_of, training_states
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road


def take_down_changes(recipe: Recipe, road: Road, given: Path | None) -> dict[str, Any]:
    """What the tiers lose and which arrows run again, for the list ``given`` or else the recipe's.

    Returns ``repositories``, ``unknown`` (named, but in no tier and never dropped), ``tiers`` (files, documents and tokens each loses),
    ``synthetic`` (files that theirs seeded), ``phases`` (what was read of them at which steps), ``trained`` (phase -> state), ``arrows``
    (stage -> why it runs again).

    Raises SnowError without a list, or where artefacts are missing.
    """
    path = given or recipe.corpus.take_down
    if path is None:
        raise SnowError("no take-down list: give --list FILE (repository names, one a line), or set corpus.take_down in the recipe")
    names = set(read_take_down(path))
    artefacts = artefacts_of(recipe, road)
    found = trace_repositories(artefacts, names)
    after = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update={"take_down": path})})
    new = build_road(after, road.out)
    return {
        "list": str(path), "repositories": sorted(names), "unknown": sorted(names - set(found["seen"])),
        "tiers": found["tiers"], "synthetic": found["synthetic"],
        "dropped": found["dropped"], "phases": found["phases"], "trained": training_states(recipe, road),
        "arrows": {name: status.why for name, status in new.statuses().items() if status.state != "done"},
    }  # fmt: skip


def render_changes(changes: dict[str, Any]) -> str:
    """The changes in words."""
    lines = [f"Taking down {len(changes['repositories'])} repositories ({changes['list']}):"]
    lines += [f"  {tier}: -{len(part['files'])} files, -{format_count(part['tokens'])} tokens" for tier, part in changes["tiers"].items()]
    if changes["synthetic"]:
        part = changes["synthetic"]
        lines.append(f"  synthetic: {len(part['files'])} files ({format_count(part['tokens'])} tokens) were seeded by theirs")
    if not changes["tiers"]:
        lines.append("  no tier holds a file of them")
    for phase, tiers in changes["phases"].items():
        for tier, reads in tiers.items():
            read = f"{reads['steps']} of {reads['of']} steps read {format_count(reads['tokens'])} tokens of {tier}"
            read += f", the first at step {reads['runs'][0][0]}" if reads["runs"] else ""
            lines.append(f"  phase {phase} ({changes['trained'][phase]}): {read}")
    if changes["unknown"]:
        lines.append(f"  never seen: {', '.join(changes['unknown'][:10])}" + (" ..." if len(changes["unknown"]) > 10 else ""))
    arrows = changes["arrows"]
    lines.append(f"Arrows that run again: {', '.join(arrows)}" if arrows else "Arrows that run again: none; the tiers are without them already")
    return "\n".join(lines)
