"""The command line. Errors a user can mend end with exit code 2 and no traceback; bugs keep theirs (1).

A training that was stopped by a signal and saved ends with 3, one that lost a process (killed, hung) with 4: both go on with the same command.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.output import form, last_words
from megatron_snow.artifacts.publish import exclusive
from megatron_snow.cli.ablate import ablate
from megatron_snow.cli.label import label
from megatron_snow.cli.output import Result, choose_form
from megatron_snow.cli.validate_annotator import validate_annotator

if TYPE_CHECKING:  # the recipe's settings would slow `snow --help` down
    from megatron_snow.recipe.settings import Recipe
    from megatron_snow.recipe.stage import Road
    from megatron_snow.training.crew import Crew

_HELP = """From raw source code to a trained, evaluated Hugging Face code model: the Arctic-SnowCoder road.

raw code -> corpus -> tokenizer -> annotate -> synthesize -> tokenize -> train (three phases) -> convert -> evaluate -> report

Each step reads a RECIPE (a YAML file; see examples/), does only what is not done yet, can be killed at any time and
goes on when started again. Start with:  snow plan examples/quickstart/recipe.yaml

Every command takes --quiet (results and errors only) and --json (results as JSON on standard output, progress, messages and
errors as JSON lines on standard error).
"""

_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it and typer gives it."""

app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file: examples/quickstart/recipe.yaml, examples/snowcoder_1b3/recipe.yaml, ...")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one field of the recipe, e.g. --set train.phases.general.tokens=1M. May be repeated."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where artefacts go; out/<recipe's name> by default.")]
Phase = Annotated[str | None, typer.Option("--phase", help="Only this phase of the recipe (general, continued, enhanced, ...).")]


def _arrow(arrow: str, recipe_path: Path, overrides: list[str] | None, out: Path | None, phase: str | None = None, crew: Crew | None = None) -> None:
    """Run the stages of one arrow that are not done."""
    from megatron_snow.recipe.drive import drive, follow, open_road

    if arrow != "train":
        refuse_many_processes()
    recipe, road = open_road(recipe_path, overrides or [], out, crew)
    names = [stage.name for stage in road.stages.values() if stage.arrow == arrow and phase in (None, stage.phase)]
    if not names and arrow == "base":
        raise SnowError("the recipe starts from no Hugging Face model: there is nothing to do, or train.base.hugging_face is missing")
    if not names:
        raise SnowError(f"the recipe has no phase {phase!r}; it has: {', '.join(recipe.train.phases)}")
    if arrow == "train" and "base" in road.stages:
        names.insert(0, "base")
    if crew and not crew.leader:
        follow(road, crew)
        return
    require_sandbox(recipe, road, names)
    with exclusive(road.out):
        drive(road, names)
    made = {name: status.manifest for name in names if (status := road.status(name)).manifest}
    stages = {name: {"folder": str(road.folder(name)), "seconds": one.seconds, "counts": one.counts} for name, one in made.items()}
    Result().show({"arrow": arrow, "out": str(road.out), "stages": stages}, None)
    if crew:
        crew.tell(None)


def _joined(action: Callable[[Crew | None], None], listen: bool) -> None:
    """Run a command that trains: as one rank of several where torchrun or srun started this process, alone otherwise."""
    from megatron_snow.parallel.backend import has_cuda_driver
    from megatron_snow.training.worker import numbers_from_environment

    numbers = numbers_from_environment()
    if numbers is None:
        action(None)
        return
    if not has_cuda_driver():
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # nothing is compiled on a CPU; spares a second of imports
    warnings.simplefilter("ignore")  # of the libraries, once a rank
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # c10d's warnings that rank 0 is not there yet, or not any more
    from megatron_snow.training.crew import attend

    attend(numbers, action, listen)


def refuse_many_processes() -> None:
    """Only training is for several processes: elsewhere each would want the output folder's lock. Raises SnowError there."""
    from megatron_snow.training.worker import numbers_from_environment

    numbers = numbers_from_environment()
    if numbers is not None and numbers.world > 1:
        raise SnowError(f"this arrow takes one process, and this is process {numbers.rank + 1} of {numbers.world}: start it with srun --ntasks=1, or by itself")


def require_sandbox(recipe: Recipe, road: Road, names: Sequence[str]) -> None:
    """Say before hours of training that the evaluation after it could not run. Raises SnowError where the machine cannot isolate programs."""
    from megatron_snow.sandbox import check_isolation

    if recipe.evaluate.sandbox.isolation != "namespaces":
        return
    if not any(road.stages[name].arrow == "evaluate" and road.status(name).state != "done" for name in names):
        return
    try:
        check_isolation()
    except SnowError as error:
        raise SnowError(f"evaluate runs generated programs: {error}; to accept that: --set evaluate.sandbox.isolation=process") from error


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="Plan for so many GPUs: step time, days, GPU-hours, layouts that fit.")] = None,
    gpu_memory: Annotated[str, typer.Option("--gpu-memory", help="Memory of one GPU.")] = "80GB",
    gpu_flops: Annotated[float, typer.Option("--gpu-flops", help="FLOP/s of one GPU, dense bf16; the default is an H100's.")] = 989e12,
    mfu: Annotated[float, typer.Option("--mfu", help="Share of them that an unsplit model reaches, 0..1.")] = 0.40,
    sample: Annotated[
        float | None, typer.Option("--sample", metavar="SHARE", help="Run the data arrows on this share of the sources (0.01) and tell what all would come to.")
    ] = None,
) -> None:
    """Print what would be done: state of each arrow and why, tokens, steps, parameters, FLOPs, memory, checkpoint sizes, time budget.

    With --gpus also how long the phases take on that many GPUs, and the layouts that fit them, fastest first.
    With --sample also documents, bytes, tokens and hours of the data arrows, with intervals, from a run on a share of the sources.
    """
    from megatron_snow.artifacts.units import parse_bytes
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.recipe.plan import plan_values, render_plan
    from megatron_snow.recipe.step_time import Cluster

    try:
        memory = parse_bytes(gpu_memory)
    except ValueError as error:
        raise SnowError(f"--gpu-memory: {error}") from error
    cluster = Cluster(gpus, memory, gpu_flops, mfu) if gpus is not None else None
    checked, road = open_road(recipe, overrides or [], out)
    text, values = render_plan(checked, road, cluster), plan_values(checked, road, cluster)
    if sample is not None:
        from megatron_snow.recipe.sample_estimate import estimate, render_estimate

        values["sample"] = estimate(checked, road, sample)
        text += "\n\n" + render_estimate(values["sample"])
    Result().show(values, text)


@app.command()
def corpus(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Raw code -> standard tier: read the sources, filter, deduplicate, decontaminate, split off held-out repositories."""
    _arrow("corpus", recipe, overrides, out)


@app.command()
def tokenizer(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Standard tier -> tokenizer: train a byte-level BPE with the code special tokens, or take the given one."""
    _arrow("tokenizer", recipe, overrides, out)


@app.command()
def annotate(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Standard tier -> high-quality tier: train the BERT-style annotator, score every file, select per language to the token budget."""
    _arrow("annotate", recipe, overrides, out)


@app.command()
def synthesize(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """High-quality tier -> synthetic tier: ask a served model for problem-solving files seeded by the best files, keep what passes."""
    _arrow("synthesize", recipe, overrides, out)


@app.command()
def tokenize(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Tiers -> Megatron .bin/.idx: group files into documents by language and repository, encode, index."""
    _arrow("tokenize", recipe, overrides, out)


@app.command()
def base(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Hugging Face model -> checkpoint to start from, where the recipe names one (train.base); `snow train` does it too."""
    _arrow("base", recipe, overrides, out)


@app.command()
def train(recipe: RecipePath, overrides: Overrides = None, out: Out = None, phase: Phase = None) -> None:
    """Indexed tiers -> checkpoints: the phases one after the other on megatron-core, resuming where a killed run stopped.

    Under srun (one task a GPU) or torchrun each process is one rank; started by hand, the ranks of one machine are started here.
    Stopped by SIGTERM or SIGUSR1, it saves and ends with exit code 3.
    """
    _joined(lambda crew: _arrow("train", recipe, overrides, out, phase, crew), listen=True)


@app.command()
def convert(recipe: RecipePath, overrides: Overrides = None, out: Out = None, phase: Phase = None) -> None:
    """Checkpoint of any layout -> Hugging Face Llama folder, one for each phase."""
    _arrow("convert", recipe, overrides, out, phase)


@app.command()
def evaluate(recipe: RecipePath, overrides: Overrides = None, out: Out = None, phase: Phase = None) -> None:
    """Hugging Face model -> bits per byte (held-out code by language, HumanEval solutions) and HumanEval pass@1 in the sandbox."""
    _arrow("evaluate", recipe, overrides, out, phase)


@app.command()
def report(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Everything -> one self-contained HTML page."""
    _arrow("report", recipe, overrides, out)


@app.command()
def run(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """The whole road: print the plan, run every arrow that is not done, end with the model, the report and a few completions."""
    _joined(lambda crew: _run(recipe, overrides, out, crew), listen=False)


def _run(recipe: Path, overrides: list[str] | None, out: Path | None, crew: Crew | None) -> None:
    """The whole road; ranks other than the leader take part in training."""
    from megatron_snow.recipe.drive import drive, follow, open_road, summary
    from megatron_snow.recipe.plan import plan_values, render_plan

    checked, road = open_road(recipe, overrides or [], out, crew)
    if crew and not crew.leader:
        follow(road, crew)
        return
    require_sandbox(checked, road, list(road.stages))
    with exclusive(road.out):
        Result().show({"plan": plan_values(checked, road)}, render_plan(checked, road))
        drive(road, list(road.stages))
        times = {name: status.manifest.seconds for name, status in road.statuses().items() if status.manifest}
        Result().show({"finished": checked.name, "out": str(road.out), "seconds": times}, summary(checked, road))
    if crew:
        crew.tell(None)


app.command()(ablate)
app.command()(validate_annotator)
app.command()(label)


@app.command()
def preflight(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Before training on many nodes, under srun or torchrun: all ranks alike? Names the nodes that are not.

    Compares versions and code, tries each rank's device, the shared output folder, clocks, and an all-reduce with its bandwidth.
    """

    def check(crew: Crew | None) -> None:
        if crew is None:
            raise SnowError("a pre-flight compares ranks: start it as the training, e.g. srun snow preflight RECIPE; for one machine there is snow doctor")
        from megatron_snow.recipe.drive import open_road
        from megatron_snow.training.preflight import report

        checked, road = open_road(recipe, overrides or [], out)
        report(checked.layout, road.out.absolute(), crew)

    _joined(check, listen=False)


@app.command()
def doctor() -> None:
    """Say what this machine has, what each feature needs, and what is missing.

    Looks at Python and its packages, megatron-core, NCCL, Transformer Engine, Slurm, the sandbox and the C++ index.
    """
    from megatron_snow.cli.doctor import examine, findings

    found = findings()
    Result().show(found, examine(found))


def main() -> None:
    """Entry point of ``snow``."""
    try:
        app(args=choose_form(sys.argv[1:]))
    except SnowError as error:
        last_words(str(error), error.exit_code)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            if form() != "json":
                print(file=sys.stderr)  # the terminal shows ^C in front
            last_words("stopped; the same command goes on from here", _INTERRUPTED)
        raise
