"""``snow validate-annotator``: how good an annotator is and what it keys on, as JSON and as a page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import exclusive, work_folder
from megatron_snow.cli.output import Result

_FOLDER = "validate-annotator"


def validate_annotator(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe whose annotator and corpus are looked at.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one field of the recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where artefacts are; out/<recipe's name> by default.")] = None,
    annotator: Annotated[Path | None, typer.Option("--annotator", help="Another annotate artefact than the recipe's own.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option("--benchmark", help="A benchmark, or NAME=FILE; humaneval by default. May be repeated.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="A CSV with columns path,label: people's judgement.")] = None,
    against: Annotated[list[Path] | None, typer.Option("--against", help="Another annotator's artefact or scores.parquet. May be repeated.")] = None,
    files: Annotated[int, typer.Option("--files", help="Unseen random files to score.")] = 1000,
    edited: Annotated[int, typer.Option("--edited", help="Of these so many are edited and scored again.")] = 200,
    seeds: Annotated[int, typer.Option("--seeds", help="Annotators of other seeds to train and compare.")] = 0,
) -> None:
    """Validate the annotator: benchmark solutions, people's labels, seeds, what it keys on, other annotators -> JSON and a page."""
    from megatron_snow.quality.audit.run import RESULT, audit
    from megatron_snow.quality.audit.settings import AuditSettings
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.report.annotator_page import render_validation

    _, road = open_road(recipe, overrides or [], out)
    named = [dict(zip(("name", "source"), one.split("=", 1), strict=False)) for one in benchmark or ["humaneval"]]
    values = {"benchmarks": named, "labels": labels, "files": files, "edited": edited, "against": against or [], "seeds": seeds}
    try:
        settings = AuditSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise SnowError(f"validate-annotator: {'.'.join(map(str, first['loc'][:1]))}: {first['msg']}") from error
    with exclusive(road.out):
        folder = road.out / _FOLDER
        work = work_folder(folder)
        work.mkdir(parents=True, exist_ok=True)
        result = audit(settings, road.seed, annotator or road.folder("annotate"), road.folder("corpus"), work)
        (work / "validation.html").write_text(render_validation(result), encoding="utf-8")
        shutil.rmtree(work / "parts", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    found = {"result": str(folder / RESULT), "page": str(folder / "validation.html")}
    Result().show(found, "\n".join(found.values()))
