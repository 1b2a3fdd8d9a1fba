"""``snow label``: labels for Ann-Edu from a served LLM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megatron_snow.artifacts.publish import exclusive
from megatron_snow.cli.output import Result


def label(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe whose corpus is labelled, by the servers of its synthesize settings.")],
    to: Annotated[Path, typer.Option("--to", help="The jsonl file to write; annotate.labels.path names it then.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one field of the recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where artefacts are; out/<recipe's name> by default.")] = None,
    files: Annotated[int, typer.Option("--files", min=1, help="Random files to label.")] = 10_000,
) -> None:
    """Ask a served LLM for the value of random corpus files, 0 to 5: what the paper's Ann-Edu learns from. Goes on where it was stopped."""
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.synthesis.labels import label as ask

    checked, road = open_road(recipe, overrides or [], out)
    with exclusive(road.out):
        counts = ask(checked.synthesize, road.seed, road.folder("corpus") / "standard", files, to)
    Result().show({"file": str(to), **counts}, f"{to}: {counts['labelled']} of {counts['files']} files labelled by {counts['model']}; {counts['labels']}")
