"""How long a stage takes: what it took, what its like took in this study, what its recipe allows it, or what its FLOPs are on an H100."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.model.settings import flops_per_token, padded_vocabulary
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road, Stage
from megatron_snow.recipe.step_time import ASSUMED_MFU, H100_FLOPS

_PAPER_VOCABULARY = 64_000  # paper, section 2; for a tokenizer that is not read yet


def work(stage: Stage, recipe: Recipe) -> float:
    """The size of a stage's work, in the unit of its arrow: FLOPs of a training, 1 elsewhere."""
    return phase_flops(recipe, stage.phase) if stage.arrow == "train" and stage.phase else 1.0


def phase_flops(recipe: Recipe, name: str) -> float:
    """FLOPs of one phase's training."""
    phase = recipe.train.phases[name]
    vocabulary = recipe.tokenizer.train.vocabulary if recipe.tokenizer.train else _PAPER_VOCABULARY
    return phase.tokens_before(phase.steps) * flops_per_token(recipe.model, padded_vocabulary(recipe.model, vocabulary), phase.sequence)


@dataclass
class Estimates:
    """Seconds by stage, from the artefacts that are there already where there are any of the kind."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    """Arrow -> seconds a unit of work, of every finished artefact."""
    base: float = 0.0
    """FLOPs of the base recipe's training, which its budget is for."""

    @classmethod
    def of(cls, base: Recipe, roads: Iterable[tuple[Recipe, Road]]) -> Estimates:
        """From what the roads have done, each folder counted once; ``base`` is the recipe that they vary."""
        found, seen = cls(base=sum(phase_flops(base, name) for name in base.train.phases)), set()
        for recipe, road in roads:
            for stage in road.stages.values():
                if (folder := road.folder(stage.name)) not in seen and (manifest := read_manifest(folder)):
                    seen.add(folder)
                    found.rates.setdefault(stage.arrow, []).append(manifest.seconds / work(stage, recipe))
        return found

    def seconds(self, stage: Stage, recipe: Recipe) -> tuple[float | None, str]:
        """Seconds and where they are from: ``measured`` here, the recipe's ``budget``, one ``H100`` at the MFU that plans assume; None where nothing is known.

        A training killed and gone on with is measured from its last start, so a mean over several is taken.
        """
        if rates := self.rates.get(stage.arrow):
            return fmean(rates) * work(stage, recipe), "measured"
        if stage.arrow == "train" and recipe.budget.get("train") and self.base:
            return recipe.budget["train"] * work(stage, recipe) / self.base, "budget"
        if stage.budget:
            return float(stage.budget), "budget"
        if stage.arrow == "train":
            return work(stage, recipe) / (ASSUMED_MFU * H100_FLOPS), "H100"
        return None, "unknown"
