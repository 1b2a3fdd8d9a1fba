"""What made this run: settings that differ from their defaults, versions, machines, fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from megatron_snow.report.defaults import default_tree
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.numbers import DASH, of
from megatron_snow.report.parts import Alert, Section, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.yaml_view import changes, recipe_lines

_DIGITS = 12  # of a fingerprint (ours: 48 bits tell any two artefacts of a project apart)


def section(road: RoadView) -> Section:
    """Built from the recipe and the manifests."""
    recipe = dict(road.recipe)
    found = list(changes(recipe, default_tree(recipe)))
    lead = f"{of(len(found), 'setting')} {'differs' if len(found) == 1 else 'differ'} from the default, which is the paper's where the paper states one."
    body: list[Child] = [
        table(["setting", "here", "default"], [[tag("code", one.path), one.value, one.default or DASH] for one in found], texts=3) if found else None,
        _recipe(recipe),
        tag("h3", "Versions"),
        _by_arrows(road, "package", lambda one: one.manifest.versions),
        tag("h3", "Machines"),
        _by_arrows(road, "", _machine) if any(one.manifest.machine for one in road.artefacts.values()) else missing("machines", _OLD),
        tag("h3", "Artefacts and what each was made from"),
        _artefacts(road),
    ]
    return Section("settings", "Settings and provenance", lead, body)


_OLD = "The artefacts are older than the note of the machine that made them."


def alerts(road: RoadView) -> list[Alert]:
    """Artefacts that were made from another version of an input than the one this page shows."""
    return [
        Alert("provenance", f"{name} was made from another {other} than the one shown here: run the road again before comparing them.", "settings",
              f"fingerprint read {had[:_DIGITS]}, fingerprint now {has[:_DIGITS]}")
        for name, one in road.artefacts.items()
        for other, had in one.manifest.inputs.items()
        if (has := _now(other, road)) not in (None, had)
    ]  # fmt: skip


def _now(read: str, road: RoadView) -> str | None:
    """The fingerprint of an input, or of a part of one, as it is shown here; None where it lies outside the road."""
    one = road.artefacts.get(read.partition("/")[0])
    return one.manifest.fingerprint_read(read) if one else None


def _recipe(recipe: dict[str, Any]) -> Markup:
    lines: list[Child] = []
    for line in recipe_lines(recipe, default_tree(recipe)):
        # Bold as well as coloured: some readers do not tell the colour.
        lines += [tag("b", line.text, class_="changed") if line.changed else line.text, tag("span", line.hint, class_="hint") if line.hint else None, "\n"]
    about = tag("p", "As it was checked, every default written out; ", tag("b", "what differs stands out so", class_="changed"), ".", class_="note")
    return tag(
        "details",
        tag("summary", "The whole recipe"),
        tag("div", about, tag("pre", tag("code", lines), tabindex=0, role="group", aria_label="recipe"), class_="sample"),
    )


def _machine(one: Artefact) -> dict[str, str]:
    machine = one.manifest.machine
    return {"machine": machine.describe(), "system": machine.system} if machine else {}


def _by_arrows(road: RoadView, what: str, of_one: Callable[[Artefact], dict[str, str]]) -> Markup:
    """One column a distinct set: arrows run on different days or machines may differ."""
    sets: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, one in road.artefacts.items():
        sets.setdefault(tuple(sorted(of_one(one).items())), []).append(name)
    names = sorted({key for found in sets for key, _ in found})
    heads = ["all arrows"] if len(sets) == 1 else [", ".join(stages) for stages in sets.values()]
    return table([what, *heads], [[name, *(dict(found).get(name, DASH) for found in sets)] for name in names], texts=1 + len(heads))


def _artefacts(road: RoadView) -> Markup:
    rows: list[list[Child]] = []
    for name, one in road.artefacts.items():
        made = one.manifest
        prints = [tag("code", made.fingerprint[:_DIGITS]), tag("code", made.key[:_DIGITS])]
        rows.append([name, _inputs(one, road), *prints, str(made.seed), str(made.arrow_version), made.started])
    return table(
        ["arrow", "made from", "fingerprint", "key", "seed", "version", "started (UTC)"],
        rows,
        texts=2,
        caption="Fingerprint: sha256 over the artefact's files. Key: sha256 over settings, seed, inputs' fingerprints and the arrow's version; "
        "equal keys, equal work.",
    )


def _inputs(one: Artefact, road: RoadView) -> Child:
    """Names of the inputs; what lies outside the road, or is not as it was read, with the fingerprint that was read."""

    def name(other: str, fingerprint: str) -> Child:
        return other if fingerprint == _now(other, road) else join(other, " ", tag("code", fingerprint[:_DIGITS]))

    named = [name(other, fingerprint) for other, fingerprint in one.manifest.inputs.items()]
    return [child for index, one_name in enumerate(named) for child in ((", ", one_name) if index else (one_name,))] or DASH
