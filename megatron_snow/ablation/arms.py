"""A study file -> the recipe of every arm and seed, checked as a whole before anything runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_snow.ablation.settings import Arm, Scale, Study
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_count, parse_tokens
from megatron_snow.recipe.load import checked, load_recipe, read_tree
from megatron_snow.recipe.settings import Recipe

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?% of \$(\w+)")
_VALUE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Unit:
    """One run: an arm with a seed."""

    arm: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """As messages and folders have it."""
        return f"{self.arm}/seed-{self.seed}"


@dataclass(frozen=True)
class Opened:
    """A study at one scale: everything that is run, and what is only planned."""

    study: Study
    scale_name: str
    scale: Scale
    units: tuple[Unit, ...]
    planned: Mapping[str, Recipe]
    """Recipes of the arms that are planned only."""
    base: Recipe
    """The scale's recipe before any arm: what its budgets are for."""
    absent: Mapping[str, str]
    """Arms that are left out -> the file that they need."""

    def chosen(self, only: Sequence[str], seeds: Sequence[int]) -> list[Unit]:
        """The units of some arms and seeds, all where none are named. Raises SnowError on an unknown one."""
        for what, given, known in (("arm", only, {unit.arm for unit in self.units}), ("seed", seeds, {unit.seed for unit in self.units})):
            if unknown := [one for one in given if one not in known]:
                raise SnowError(f"the study {self.study.name} has no {what} {unknown[0]!r}; it has: {', '.join(map(str, sorted(known)))}")
        return [unit for unit in self.units if unit.arm in (only or [unit.arm]) and unit.seed in (seeds or [unit.seed])]


def open_study(path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> Opened:
    """Read a study and make every arm's recipe; ``overrides`` (``key.path=value``) go over all arms.

    Raises SnowError where the file, the base recipe or an arm of it is wrong (naming the arm), or an arm's tokens are not the scale's.
    """
    study = checked(Study, read_tree(path, "study"), path, "study")
    name = scale or next(iter(study.scales))
    if name not in study.scales:
        raise SnowError(f"{path} has no scale {name!r}; it has: {', '.join(study.scales)}")
    chosen = study.scales[name]
    base = path.parent / (chosen.base or study.base)
    whole = load_recipe(base, overrides)
    recipes: dict[str, Recipe] = {}
    absent: dict[str, str] = {}
    for arm_name, arm in study.arms.items():
        try:
            recipes[arm_name] = load_recipe(path.parent / arm.base, []) if arm.base else _recipe(base, chosen, arm, overrides)
            file = fill_in(arm.needs, _values(chosen))
            if file is not None and not Path(str(file)).expanduser().exists():
                absent[arm_name] = str(file)
        except SnowError as error:
            raise SnowError(f"arm {arm_name} of {path.name} at scale {name}: {error}") from error
    run = {arm: recipe for arm, recipe in recipes.items() if not study.arms[arm].plan_only and arm not in absent}
    if study.baseline in absent:
        raise SnowError(
            f"the baseline {study.baseline} of {path.name} needs {absent[study.baseline]}, which is not there: give it, or compare with another arm"
        )
    if study.equal_tokens:
        _check_tokens(run, chosen, path.name)
    units = tuple(Unit(arm, seed, _seeded(recipe, seed, study)) for arm, recipe in run.items() for seed in study.seeds)
    return Opened(study, name, chosen, units, {arm: recipe for arm, recipe in recipes.items() if study.arms[arm].plan_only}, whole, absent)


def tokens_seen(recipe: Recipe) -> int:
    """Tokens of all phases, as training counts them: whole steps."""
    return sum(phase.tokens_before(phase.steps) for phase in recipe.train.phases.values())


def _recipe(base: Path, scale: Scale, arm: Arm, overrides: Sequence[str]) -> Recipe:
    values, fields = _values(scale), {**scale.set, **arm.set}
    # JSON is YAML: an override's value is written as one and read as the other
    written = [f"{key}={json.dumps(fill_in(value, values))}" for key, value in fields.items()]

    def keep_phases(tree: dict[str, Any]) -> None:
        if arm.phases is None:
            return
        train = tree.get("train")
        phases = train.get("phases") if isinstance(train, dict) else None
        if not isinstance(phases, dict):
            raise SnowError(f"phases: {', '.join(arm.phases)} are to be kept, but the base recipe writes out no train.phases")
        if unknown := [phase for phase in arm.phases if phase not in phases]:
            raise SnowError(f"phases: the recipe has no phase {unknown[0]!r}; it has: {', '.join(phases)}")
        for phase in [phase for phase in phases if phase not in arm.phases]:
            del phases[phase]

    return load_recipe(base, [*written, *overrides], keep_phases)


def _values(scale: Scale) -> dict[str, Any]:
    return {"tokens": scale.tokens, **scale.values}


def fill_in(value: Any, values: Mapping[str, Any]) -> Any:
    """``value`` with ``$NAME`` and ``N % of $NAME`` replaced, at any depth. Raises SnowError on an unknown name or a share of no quantity."""
    if isinstance(value, dict):
        return {key: fill_in(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill_in(item, values) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    share, plain = _SHARE.fullmatch(value.strip()), _VALUE.fullmatch(value.strip())
    name = share[2] if share else plain[1] if plain else None
    if name is None:
        return value  # a path with an environment variable, say
    if name not in values:
        raise SnowError(f"{value!r}: the scale has no value {name!r}; it has: {', '.join(values)}")
    if not share:
        return values[name]
    try:
        return round(float(share[1]) / 100 * parse_tokens(values[name]))
    except ValueError as error:
        raise SnowError(f"{value!r}: {error}") from error


def _check_tokens(recipes: Mapping[str, Recipe], scale: Scale, study: str) -> None:
    """Refuse arms that see another number of tokens than the scale's: a difference could be that of tokens."""
    for arm, recipe in recipes.items():
        if (seen := tokens_seen(recipe)) != scale.tokens:
            phases = ", ".join(f"{name} {phase.steps} steps of {phase.tokens_per_step:,}" for name, phase in recipe.train.phases.items())
            raise SnowError(
                f"arm {arm} of {study} trains on {seen:,} tokens ({phases}), the scale says {scale.tokens:,} for every arm: make the phases' tokens sum up to "
                "that in whole steps, or set equal_tokens: false where their number is what is studied"
            )


def _seeded(recipe: Recipe, seed: int, study: Study) -> Recipe:
    if study.vary == "road":
        return recipe.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})


def describe_tokens(recipe: Recipe) -> str:
    """``general 480K, continued 150K``: for tables."""
    return ", ".join(f"{name} {format_count(phase.tokens_before(phase.steps))}" for name, phase in recipe.train.phases.items())
