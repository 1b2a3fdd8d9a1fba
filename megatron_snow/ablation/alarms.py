"""The failure signatures of a study's runs: of the tiers once for all runs that share them, of over-fitting for every run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_snow.recipe.stage import Road
from megatron_snow.signatures import measure

_TIERS = ("corpus", "annotate", "synthesize")


def signatures(runs: Mapping[tuple[str, int], Road]) -> dict[str, Any]:
    """Of finished runs (arm, seed)::

        {"tiers": [{"runs": [name, ...], "signatures": {...}}, ...], "training": {name: {...}}}     signatures as ``signatures.measure`` has them

    Raises SnowError where an artefact is damaged.
    """
    shared: dict[tuple[Path, ...], list[str]] = {}
    folders: dict[tuple[Path, ...], dict[str, Path]] = {}
    training = {}
    for (arm, seed), road in runs.items():
        name = f"{arm}/seed-{seed}"
        tiers = {stage: road.folder(stage) for stage in _TIERS if stage in road.stages}
        key = tuple(tiers.values())
        shared.setdefault(key, []).append(name)
        folders[key] = tiers
        training[name] = measure({stage: road.folder(stage) for stage in road.stages if stage.startswith("train ")})
    return {"tiers": [{"runs": shared[key], "signatures": measure(found)} for key, found in folders.items()], "training": training}


def lines(found: Mapping[str, Any]) -> list[str]:
    """Every alarm and the runs that it is of, as Markdown; one line where there is none."""
    of: dict[str, list[str]] = {}
    for tiers in found["tiers"]:
        for alarm in tiers["signatures"]["alarms"]:
            of.setdefault(alarm, []).extend(tiers["runs"])
    for name, one in found["training"].items():
        for alarm in one["alarms"]:
            of.setdefault(alarm, []).append(name)
    every = len(found["training"])
    return [f"- {alarm}: {'all runs' if len(names) == every else ', '.join(names)}" for alarm, names in of.items()] or ["No alarm went off."]
