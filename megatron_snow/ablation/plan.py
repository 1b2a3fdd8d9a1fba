"""``snow ablate --plan``: arms, seeds, what they share, hours; nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from megatron_snow.ablation.arms import Opened, Unit, describe_tokens, tokens_seen
from megatron_snow.ablation.estimate import Estimates, work
from megatron_snow.ablation.store import Roads
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_count, format_seconds
from megatron_snow.model.settings import padded_vocabulary, parameters
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road
from megatron_snow.recipe.step_time import ASSUMED_MFU, H100_FLOPS


def render(opened: Opened, units: Sequence[Unit], roads: Roads) -> str:
    """The plan of some units as text."""
    study = opened.study
    made, missing = _roads(units, roads)
    lines = [
        f"{study.name} at scale {opened.scale_name} -> {roads.out}" + (f", artefacts in {roads.store}" if roads.store else ""),
        *([f"  {study.question}"] if study.question else []),
        f"  {len({unit.arm for unit in units})} arms x {len({unit.seed for unit in units})} seeds = {len(units)} runs "
        f"of {format_count(opened.scale.tokens)} tokens; "
        f"a seed changes {'training' if study.vary == 'train' else 'the whole road'}; compared: {', '.join(f'{a} with {b}' for a, b in study.pairs)}",
        "",
        *_arms(opened, units),
        "",
    ]
    if missing:
        hours = sum(work(stage, unit.recipe) for unit in units for stage in roads.bare(unit.recipe) if stage.arrow == "train") / (ASSUMED_MFU * H100_FLOPS)
        cannot = (
            f"  so what is done cannot be said; training all runs, nothing shared, takes {format_seconds(hours)} of an H100 at {ASSUMED_MFU:.0%} of its peak"
        )
        return "\n".join([*lines, *(f"  not yet: {why}" for why in missing), cannot])
    return "\n".join([*lines, *_arrows(made), "", *_time(opened, made)])


def _roads(units: Sequence[Unit], roads: Roads) -> tuple[list[tuple[Unit, Road]], list[str]]:
    made: list[tuple[Unit, Road]] = []
    missing: dict[str, None] = {}
    for unit in units:
        try:
            made.append((unit, roads.road(unit.recipe)))
        except SnowError as error:  # a source that is not there yet
            missing[str(error)] = None
    return made, list(missing)


def _arms(opened: Opened, units: Sequence[Unit]) -> list[str]:
    lines = [f"  {'arm':<20} {'parameters':>10} {'tokens':>8}  phases"]
    recipes = {unit.arm: unit.recipe for unit in units} | dict(opened.planned)
    for name, recipe in recipes.items():
        words = "  (planned only)" if name in opened.planned else ""
        lines.append(f"  {name:<20} {format_count(parameter_count(recipe)):>10} {format_count(tokens_seen(recipe)):>8}  {describe_tokens(recipe)}{words}")
    return lines + [f"  {name:<20} left out: it needs {file}, which is not there" for name, file in opened.absent.items()]


def parameter_count(recipe: Recipe) -> int:
    """With the vocabulary that the recipe asks for; the paper's where a tokenizer is given and not read yet."""
    vocabulary = recipe.tokenizer.train.vocabulary if recipe.tokenizer.train else 64_000
    return int(float(f"{parameters(recipe.model, padded_vocabulary(recipe.model, vocabulary)):.4g}"))


def _arrows(made: Sequence[tuple[Unit, Road]]) -> list[str]:
    """A row an arrow: how many artefacts there are, in how many roads, and how many are done."""
    uses: Counter[tuple[str, str]] = Counter()
    done: dict[tuple[str, str], bool] = {}
    for _, road in made:
        for stage in road.stages.values():
            key = (stage.arrow, stage.folder)
            uses[key] += 1
            if key not in done:
                done[key] = road.status(stage.name).state == "done"
    lines = [f"  {'arrow':<12} {'in roads':>8} {'to make once':>12} {'shared':>7} {'done':>5}"]
    for arrow in dict.fromkeys(arrow for arrow, _ in uses):
        keys = [key for key in uses if key[0] == arrow]
        shared = sum(uses[key] > 1 for key in keys)
        lines.append(f"  {arrow:<12} {sum(uses[key] for key in keys):>8} {len(keys):>12} {shared:>7} {sum(done[key] for key in keys):>5}")
    return lines


def _time(opened: Opened, made: Sequence[tuple[Unit, Road]]) -> list[str]:
    estimates = Estimates.of(opened.base, ((unit.recipe, road) for unit, road in made))
    seen: set[str] = set()
    left: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    origin: dict[str, str] = {}
    apart = 0.0
    for unit, road in made:
        for stage in road.stages.values():
            seconds, where = estimates.seconds(stage, unit.recipe)
            apart += seconds or 0.0
            if stage.folder in seen or road.status(stage.name).state == "done":
                continue
            seen.add(stage.folder)
            origin[stage.arrow] = where
            if seconds is None:
                unknown[stage.arrow] += 1
            else:
                left[stage.arrow] += round(seconds)
    if not seen:
        return ["  everything is done"]
    parts = ", ".join(f"{arrow} {format_seconds(seconds)} ({origin[arrow]})" for arrow, seconds in left.items())
    lines = [f"  to do, one at a time: {format_seconds(sum(left.values()))}: {parts}", f"  the same without sharing, from nothing: {format_seconds(apart)}"]
    if unknown:
        words = ", ".join(f"{count} of {arrow}" for arrow, count in unknown.items())
        lines.append(f"  not in it, as nothing is known of their time: {words} (the recipe's budget would say)")
    if "H100" in origin.values():
        lines.append("  H100: the FLOPs of training on one at the share that plans assume")
    return lines
