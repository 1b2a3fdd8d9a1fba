"""``snow ablate``: a study's plan, runs and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from megatron_snow.artifacts.errors import SnowError, Stopped
from megatron_snow.artifacts.progress import say
from megatron_snow.cli.output import Result

if TYPE_CHECKING:  # the recipe's settings would slow `snow --help` down
    from megatron_snow.ablation.arms import Opened, Unit
    from megatron_snow.ablation.store import Roads
    from megatron_snow.recipe.stage import Road

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study, a YAML file: examples/studies/phases.yaml, ...")]


def ablate(
    study: StudyPath,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one field of every arm's recipe. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where artefacts and results go; out/ablate/<study>-<scale> by default.")] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="FOLDER", help="Where artefacts go: studies on one store share what is alike. OUT/store by default.")
    ] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="One of the study's scales; its first by default.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="ARM", help="Only this arm. May be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="N[,N...]", help="Only these of the study's seeds.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print arms, seeds, what they share and hours; run nothing.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at once on this machine, each on its share of cores and GPUs.")] = 1,
    shared: Annotated[bool, typer.Option("--shared", help="Only make the data artefacts that runs share (the first job of a cluster's chain).")] = False,
    task: Annotated[int | None, typer.Option("--task", min=0, help="Only the run of this number, as --list counts them from 0 (a Slurm array's task).")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Print one line a run, ARM SEED, and end.")] = False,
    results: Annotated[bool, typer.Option("--results/--no-results", help="Whether to write the results of all runs that are done.")] = True,
    results_only: Annotated[bool, typer.Option("--results-only", help="Run nothing, write the results of what is done.")] = False,
) -> None:
    """A study: arms of one recipe times seeds, on shared artefacts; then tables and plots of their differences with intervals.

    Killed at any moment, the same command goes on. Each run trains on the same number of tokens, or the study is refused.
    """
    from megatron_snow.ablation.arms import open_study
    from megatron_snow.ablation.plan import render
    from megatron_snow.ablation.store import Roads
    from megatron_snow.cli.commands import refuse_many_processes

    refuse_many_processes()
    opened = open_study(study, scale, overrides or [])
    units = opened.chosen(only or [], _numbers(seeds))
    if task is not None:
        if task >= len(units):
            raise SnowError(f"--task {task}: there are {len(units)} runs, numbered from 0")
        units = [units[task]]
    roads = Roads(out or Path("out") / "ablate" / f"{opened.study.name}-{opened.scale_name}", store)
    runs = [{"arm": unit.arm, "seed": unit.seed} for unit in units]
    about = {"study": opened.study.name, "scale": opened.scale_name, "tokens": opened.scale.tokens, "runs": runs, "left_out": dict(opened.absent)}
    if listing:
        Result().show(about, "\n".join(f"{unit.arm} {unit.seed}" for unit in units))
    elif plan:
        text = render(opened, units, roads)
        Result().show({**about, "plan": text.splitlines()}, text)
    elif shared:
        from megatron_snow.ablation.run import run_shared

        run_shared(units, roads)
    else:
        failed: SnowError | None = None
        try:
            if not results_only:
                _run(study, opened, units, roads, overrides or [], jobs)
        except Stopped:
            raise  # somebody waits for the end
        except SnowError as error:
            failed = error
        if results:
            _results(opened, roads)
        if failed:
            raise failed


def _run(study: Path, opened: Opened, units: list[Unit], roads: Roads, overrides: list[str], jobs: int) -> None:
    from megatron_snow.ablation.run import command_of, run_at_once, run_here

    if jobs == 1:
        run_here(opened.base, units, roads, _refuse_without_sandbox)
    else:
        for unit in units:
            _refuse_without_sandbox(unit, roads.road(unit.recipe))
        run_at_once(opened.base, units, roads, command_of(study, roads, opened.scale_name, overrides), jobs)


def _refuse_without_sandbox(unit: Unit, road: Road) -> None:
    """Say before hours of training that the evaluation after it could not run."""
    from megatron_snow.cli.commands import require_sandbox

    require_sandbox(unit.recipe, road, list(road.stages))


def _results(opened: Opened, roads: Roads) -> None:
    from megatron_snow.ablation.results import write_results

    page = write_results(opened, roads)
    if page is None:
        say("no run is finished yet: no results")
    else:
        Result().show(orjson.loads(page.with_name("results.json").read_bytes()), f"{page.read_text()}\nResults: {page.parent}")


def _numbers(seeds: str | None) -> list[int]:
    try:
        return [int(one) for one in (seeds or "").split(",") if one.strip()]
    except ValueError:
        raise SnowError(f"--seeds {seeds!r}: write numbers with commas between, like 1,2") from None
