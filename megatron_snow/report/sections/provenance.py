"""What made this run: settings, seed, versions, fingerprints."""

from __future__ import annotations

from typing import Any

from megatron_snow.report.defaults import default_tree
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.numbers import DASH
from megatron_snow.report.parts import Section, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.yaml_view import recipe_lines

_DIGITS = 12  # of a fingerprint (ours: 48 bits tell any two artefacts of a project apart)


def section(road: RoadView) -> Section:
    """Built from the recipe and the manifests."""
    lead = tag(
        "span",
        "The recipe as it was checked, every default written out. ",
        tag("span", "In this colour", class_="changed"),
        ": differs from the paper's or our default.",
    )
    body: list[Child] = [_recipe(dict(road.recipe)), tag("h3", "Versions"), _versions(road), tag("h3", "Artefacts"), _artefacts(road)]
    return Section("settings", "Settings and versions", lead, body)


def _recipe(recipe: dict[str, Any]) -> Markup:
    lines: list[Child] = []
    for line in recipe_lines(recipe, default_tree(recipe)):
        lines += [tag("span", line.text, class_="changed") if line.changed else line.text, tag("span", line.hint, class_="hint") if line.hint else None, "\n"]
    return tag("details", tag("summary", "The whole recipe"), tag("pre", tag("code", lines), tabindex=0))


def _versions(road: RoadView) -> Markup:
    """One column a distinct set of versions: arrows run on different days may differ."""
    sets: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, one in road.artefacts.items():
        sets.setdefault(tuple(sorted(one.manifest.versions.items())), []).append(name)
    names = sorted({package for versions in sets for package, _ in versions})
    heads = ["all arrows"] if len(sets) == 1 else [", ".join(stages) for stages in sets.values()]
    return table(["package", *heads], [[name, *(dict(versions).get(name, DASH) for versions in sets)] for name in names])


def _artefacts(road: RoadView) -> Markup:
    rows: list[list[Child]] = []
    for name, one in road.artefacts.items():
        made = one.manifest
        prints = [tag("code", made.fingerprint[:_DIGITS]), tag("code", made.key[:_DIGITS])]
        rows.append([name, str(made.seed), *prints, str(made.arrow_version), made.started])
    return table(
        ["arrow", "seed", "fingerprint", "key", "version", "started (UTC)"],
        rows,
        caption="Fingerprint: sha256 over the artefact's files. Key: sha256 over settings, seed, inputs' fingerprints and the arrow's version; "
        "equal keys, equal work.",
    )
