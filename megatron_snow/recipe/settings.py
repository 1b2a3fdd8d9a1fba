"""The recipe: every package's own settings, composed. Section names are the subcommands' names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Seconds
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.synthesis.settings import SynthesizeSettings
from megatron_snow.tokens.settings import TokenizerSettings, TokenizeSettings
from megatron_snow.training.settings import TrainSettings

ARROWS = ("corpus", "tokenizer", "annotate", "synthesize", "tokenize", "base", "train", "convert", "evaluate", "report")
TIERS = ("standard", "high_quality", "synthetic")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # a folder's name on any file system


class Recipe(Settings):
    """The whole road in one file."""

    name: str = Field(pattern=_NAME)
    """Names the output folder."""
    seed: int = 1234
    """Every random choice of the road is a function of this and of the settings."""
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    """``base`` stands for the tokenizer of the Hugging Face model in ``train.base``."""
    annotate: AnnotateSettings
    synthesize: SynthesizeSettings
    tokenize: TokenizeSettings = TokenizeSettings()
    model: ModelSettings = ModelSettings()
    """``base`` stands for the shape of the model in ``train.base``."""
    layout: Layout = Layout()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    budget: dict[str, Seconds] = {}  # noqa: RUF012 - settings are frozen
    """Time each arrow may take, shown by the plan and compared with at the end; limits nothing."""

    @field_validator("budget")
    @classmethod
    def _known_arrows(cls, budget: dict[str, int]) -> dict[str, int]:
        if unknown := budget.keys() - set(ARROWS):
            raise ValueError(f"no arrow is called {sorted(unknown)[0]!r}; there are: {', '.join(ARROWS)}")
        return budget

    @model_validator(mode="after")
    def _known_tiers(self) -> Recipe:
        everything = (*TIERS, "heldout")
        for phase, settings in self.train.phases.items():
            if re.match(_NAME, phase) is None:
                raise ValueError(f"train.phases: {phase!r} names a folder, so it may hold letters, digits, '.', '_' and '-' only")
            _check_tiers(f"train.phases.{phase}.blend", settings.blend, TIERS)
            _check_tiers(f"train.phases.{phase}.replay", settings.replay, TIERS)
            _check_tiers(f"train.phases.{phase}.validation_tiers", settings.validation_tiers or (), everything)
        _check_tiers("train.validation.tiers", self.train.validation.tiers, everything)
        _check_tiers("tokenize.tiers", self.tokenize.tiers, everything)
        return self

    @property
    def training_seed(self) -> int:
        """The seed of weights and of the order of samples: training's own where it has one."""
        return self.seed if self.train.seed is None else self.train.seed

    def used_tiers(self) -> set[str]:
        """The tiers that training reads or validates on: only these have to be made for it."""
        return {tier for phase in self.train.phases.values() for tier in (*phase.mix, *self.train.validated(phase))}


def _check_tiers(where: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{where}: no tier is called {unknown[0]!r}; there are: {', '.join(known)}")
