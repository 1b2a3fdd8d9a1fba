"""A study file: what is compared, on which recipe, how often, at which scale.

    name: phases
    question: what does each phase add?
    base: ../quickstart/recipe.yaml         # from the study's folder
    seeds: [1, 2, 3]
    baseline: alpha
    scales:
      cpu: {tokens: 655_360, set: {evaluate.heldout_bytes: 64KiB}}
      gpu: {tokens: 10B, base: ../snowcoder_1b3/recipe.yaml, values: {peak: 5.3e-4}}
    arms:
      alpha: {phases: [general], set: {train.phases.general.tokens: 100 % of $tokens}}
      beta: {phases: [general, continued], set: {train.phases.general.tokens: 75 % of $tokens, train.phases.continued.tokens: 25 % of $tokens}}

Scales change sizes only: the arms are the same text. Where an arm needs a number that goes with the size, it writes ``$NAME`` of the
scale's ``values`` or ``N % of $NAME``; ``$tokens`` is there always. Every arm must train on exactly the scale's ``tokens``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Tokens

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # a folder's name on any file system
ArmName = Annotated[str, Field(pattern=_NAME)]
Seed = Annotated[int, Field(ge=0)]


class Scale(Settings):
    """A size at which the study can be run."""

    title: str = ""
    """For whom: ``two cores, 3 hours``."""
    base: str | None = None
    """A recipe for this scale; the study's where left out."""
    tokens: Tokens
    """What every arm trains on in all, counted as phases count: whole steps."""
    values: dict[str, Any] = {}  # noqa: RUF012 - settings are frozen
    """Numbers that go with the size, by the names that ``set`` and the arms use: ``peak: 2.0e-3`` is ``$peak`` there."""
    set: dict[str, Any] = {}  # noqa: RUF012
    """Fields of the recipe for this scale, ``key.path: value``."""


class Arm(Settings):
    """One variant of the recipe."""

    title: str = ""
    """What it is, in words, for tables."""
    phases: tuple[str, ...] | None = None
    """Only these phases of the recipe; all of them where left out."""
    set: dict[str, Any] = {}  # noqa: RUF012
    """Fields of the recipe, ``key.path: value``, over those of the scale."""
    paper: str = ""
    """What the paper has for it, shown beside: ``22.0 (18.3) / 40.2 (33.1) / 11.6``."""
    needs: str | None = None
    """A file that the arm stands on and that may not be there, such as labels of your own: then the arm is left out, which plan and results say."""
    plan_only: bool = False
    """Planned beside the others and never run: sizes out of this machine's reach. Its tokens may differ."""
    base: str | None = None
    """A recipe of its own, from the study's folder, that the scale's ``set`` leaves alone; for what is planned only."""

    @model_validator(mode="after")
    def _only_planned_arms_stand_alone(self) -> Arm:
        if self.base and not self.plan_only:
            raise ValueError(f"base {self.base}: an arm that is run varies the study's recipe, or its difference would be that of two recipes; set plan_only")
        return self


class Study(Settings):
    """Arms times seeds of one recipe."""

    name: str = Field(pattern=_NAME)
    title: str = ""
    question: str = ""
    """What the study asks; the result page begins with it."""
    base: str
    """The recipe all arms vary; a path relative to the study file."""
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    """One run of every arm each. Differences are paired by seed."""
    vary: Literal["train", "road"] = "train"
    """What a seed changes. ``train``: fresh weights and the order of samples, the tiers are shared. ``road``: every random choice from the
    corpus on, so that each seed has tiers of its own."""
    baseline: ArmName
    """The arm that the others are compared with."""
    compare: tuple[tuple[ArmName, ArmName], ...] = ()
    """Pairs (arm, against) to compare instead of every arm against ``baseline``."""
    metrics: tuple[str, ...] = ()
    """Names of metrics, or beginnings of names, that the tables show; all that were measured where left out. See ``ablation.metrics``."""
    equal_tokens: bool = True
    """Refuse arms that do not train on the scale's tokens. Off only where the number of tokens is what is studied."""
    resamples: Annotated[int, RUNTIME] = Field(default=2000, ge=100)  # ours: an interval's end moves by about 2 % of its width from run to run
    """Bootstrap resamples."""
    scales: dict[ArmName, Scale] = Field(min_length=1)
    """The first is the default."""
    arms: dict[ArmName, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        run = [name for name, arm in self.arms.items() if not arm.plan_only]
        for what, name in (("baseline", self.baseline), *(("compare", name) for pair in self.compare for name in pair)):
            if name not in run:
                raise ValueError(f"{what}: no arm that is run is called {name!r}; there are: {', '.join(run)}")
        if twice := [seed for seed in self.seeds if self.seeds.count(seed) > 1]:
            raise ValueError(f"seeds: {twice[0]} is given twice; a run repeated with its own seed says nothing new")
        if same := [a for a, b in self.compare if a == b]:
            raise ValueError(f"compare: {same[0]} with itself")
        for name, arm in self.arms.items():
            if arm.phases is not None and not arm.phases:
                raise ValueError(f"arms.{name}.phases is empty: name a phase, or leave it out for all of the recipe's")
        return self

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The comparisons (arm, against)."""
        return self.compare or tuple((name, self.baseline) for name, arm in self.arms.items() if name != self.baseline and not arm.plan_only)
