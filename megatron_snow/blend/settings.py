"""What a recipe may say about how a phase's tiers are mixed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import parse_tokens


def _weight(value: Any) -> Any:
    return parse_tokens(value) if isinstance(value, str) else value


Weight = Annotated[float, BeforeValidator(_weight), Field(gt=0, allow_inf_nan=False)]
"""A share (``0.7``) or a number of tokens (``12.5B``): only ratios count."""


class MegatronOrder(Settings):
    """What a Megatron-LM run was started with that decides the order of its samples. Defaults are Megatron-LM's (core 0.16.1)."""

    seed: int = Field(default=1234, ge=0, lt=2**32)
    """``--seed``."""
    split: str = Field(default="969, 30, 1", pattern=r"^[0-9.]+(\s*,\s*[0-9.]+){0,2}$")
    """``--split``: training, validation and test; only the first part's documents are trained on."""
    surplus: float = Field(default=0.005, ge=0)
    """``mid_level_dataset_surplus``: what is built of each dataset beyond its share."""

    @field_validator("split")
    @classmethod
    def _some_training(cls, split: str) -> str:
        if not 0 < _share(split) <= 1:
            raise ValueError(f"split {split!r} leaves nothing to train on; write it like '969, 30, 1'")
        return split

    @property
    def train_share(self) -> float:
        """The share of the documents that is trained on, from the first."""
        return _share(self.split)


def _share(split: str) -> float:
    parts = [float(part) for part in split.split(",")]
    return parts[0] / sum(parts) if sum(parts) else 0.0


class MixtureSettings(Settings):
    """How a phase's tiers are mixed, beyond their weights."""

    languages: dict[str, dict[str, Weight]] = {}  # noqa: RUF012 - settings are frozen. Paper: tiers keep their own proportions
    """Tier -> language -> share of the tier's samples; ``*`` stands for all languages not named, languages that are not
    named are left out where there is no ``*``. A tier that is not named keeps the proportions of its documents."""
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = {}  # noqa: RUF012
    """Tier -> how often its documents may be repeated, where that is another number than the phase's ``max_epochs``."""
    exhausted: Literal["refuse", "leave"] = "refuse"  # ours: a blend that shifts in mid-phase should be asked for
    """What happens where a tier, or a language of one with shares, would be repeated more often than allowed: the phase is
    refused, or it leaves the blend at that sample and the others go on in their proportions."""
    megatron: MegatronOrder | None = None
    """Take samples in the order Megatron-LM takes them in, for a run that was begun with it; ours where this is not given."""

    @model_validator(mode="after")
    def _one_order(self) -> MixtureSettings:
        if self.megatron is not None and (self.languages or self.exhausted == "leave"):
            raise ValueError("megatron's order knows no shares of languages and no tier that leaves: take them out, or take megatron out")
        return self


Probability = Annotated[float, Field(ge=0, le=1)]


class FimSettings(Settings):
    """How much of a phase's data is made to be filled in. The paper says nothing of it; the numbers are StarCoder2's."""

    rate: Probability = 0.5  # StarCoder2, section 5
    """Probability that a document is chosen, in each pass anew."""
    file_rate: Probability = 0.5  # StarCoder2, section 5
    """Probability that a file of a chosen document is."""
    spm_rate: Probability = 0.5  # StarCoder2, section 5
    """Share of the chosen files that are laid down suffix first."""
