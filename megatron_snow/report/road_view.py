"""What every section is given: the artefacts of the road, by stage and by phase, and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.progress import Progress
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.tiers import Profile, profile
from megatron_snow.signatures import measure

TIERS = {
    "standard": ("corpus", "standard"),
    "high_quality": ("annotate", "high_quality"),
    "synthetic": ("synthesize", "synthetic"),
    "heldout": ("corpus", "heldout"),
}
"""Tier -> the stage that writes it and the folder in that stage's artefact."""


@dataclass(frozen=True)
class RoadView:
    """The road as it was run."""

    artefacts: Mapping[str, Artefact]
    """By stage name, in road order."""
    recipe: Mapping[str, Any]

    def stage(self, name: str) -> Artefact | None:
        """A stage's artefact, or None where the report was given none."""
        return self.artefacts.get(name)

    def phases(self, arrow: str) -> dict[str, Artefact]:
        """The artefacts of an arrow that is applied once a phase, by phase in road order."""
        return {found.phase: found for name, found in self.artefacts.items() if name.startswith(f"{arrow} ") and found.phase}

    def tier(self, name: str) -> Path | None:
        """A tier's folder, or None where the road has none."""
        stage, folder = TIERS[name]
        found = self.artefacts[stage].folder / folder if stage in self.artefacts else None
        return found if found is not None and any(found.glob("*.jsonl.zst")) else None

    @cached_property
    def signatures(self) -> dict[str, Any]:
        """What ``signatures.measure`` finds in the artefacts that hold their tiers."""
        tiers = {"corpus": "standard", "annotate": "high_quality", "synthesize": "synthetic"}
        return measure({name: one.folder for name, one in self.artefacts.items() if name not in tiers or self.tier(tiers[name])})

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """The tiers that are there, read once for all sections."""
        there = {name: folder for name in TIERS if (folder := self.tier(name))}
        found = {}
        with Progress("reading tiers", total=len(there), unit="tiers") as bar:
            for name, folder in there.items():
                found[name] = profile(folder)
                bar.advance(note=name)
        return found
