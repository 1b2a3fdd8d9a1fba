"""The road, in data order: this file is the table of contents of megatron_snow.

    raw code -> corpus -> tokenizer -> annotate -> synthesize -> tokenize -> train (a phase after the other) -> convert -> evaluate -> report
                                                   a Hugging Face model -> base --^

``version`` of a stage goes up when its arrow's output changes for the same settings, seed and inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.recipe.base import NAME as BASE
from megatron_snow.recipe.base import base_checkpoint, base_fingerprint, base_stages
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road, Stage
from megatron_snow.synthesis.settings import JOURNAL

if TYPE_CHECKING:
    from megatron_snow.training.crew import Crew

Inputs = Mapping[str, Path]
Counts = dict[str, Any]

_STANDARD = {"corpus": ("standard",)}  # what is read of the corpus: neither its summary nor its other tier redoes the arrow


def build_road(recipe: Recipe, out: Path, crew: Crew | None = None) -> Road:
    """The stages of a recipe in the output folder ``out``; nothing runs yet. ``crew``: the ranks, where torchrun or srun started them."""
    stages = [
        _corpus(recipe),
        _tokenizer(recipe),
        _annotate(recipe),
        _synthesize(recipe),
        _tokenize(recipe),
        *base_stages(recipe),
        *_train(recipe, crew),
        *(_convert(recipe, phase) for phase in recipe.train.phases),
        *(_evaluate(recipe, phase) for phase in recipe.train.phases),
    ]
    stages.append(_report(recipe, stages))
    return Road(stages, out, recipe.seed)


def _corpus(recipe: Recipe) -> Stage:
    def run(_: Inputs, work: Path) -> Counts:
        from megatron_snow.corpus import build

        return build(recipe.corpus, recipe.seed, work)

    def external() -> dict[str, str]:
        from megatron_snow.corpus import source_fingerprint
        from megatron_snow.corpus.takedown import take_down_fingerprint

        taken_down = {} if recipe.corpus.take_down is None else {"take-down list": take_down_fingerprint(recipe.corpus.take_down)}
        return {"sources": source_fingerprint(recipe.corpus), "benchmarks": recipe.corpus.decontamination.fingerprint()} | taken_down

    parts = dict.fromkeys(("standard", "heldout"), ())
    return Stage("corpus", "corpus", "1-corpus", 9, recipe.corpus.identity(), run, parts=parts, external=external, budget=recipe.budget.get("corpus"))


def _tokenizer(recipe: Recipe) -> Stage:
    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.tokens import train_tokenizer

        return train_tokenizer(recipe.tokenizer, inputs["corpus"], work)

    def external() -> dict[str, str]:
        from megatron_snow.tokens import tokenizer_fingerprint

        return {"given tokenizer": tokenizer_fingerprint(recipe.tokenizer)}

    settings, budget = recipe.tokenizer.identity(), recipe.budget.get("tokenizer")
    return Stage("tokenizer", "tokenizer", "2-tokenizer", 1, settings, run, ("corpus",), _STANDARD, external=external, budget=budget)


def _annotate(recipe: Recipe) -> Stage:
    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.quality import annotate

        return annotate(recipe.annotate, recipe.seed, inputs["corpus"], inputs["tokenizer"], work)

    def external() -> dict[str, str]:
        from megatron_snow.quality import source_fingerprint

        return {"positives and encoder": source_fingerprint(recipe.annotate)}

    settings, needs, budget = recipe.annotate.identity(), ("corpus", "tokenizer"), recipe.budget.get("annotate")
    parts = {"high_quality": ("corpus/standard", "tokenizer")}
    return Stage("annotate", "annotate", "3-annotate", 4, settings, run, needs, _STANDARD, parts, external=external, budget=budget)


def _synthesize(recipe: Recipe) -> Stage:
    # What a served model wrote must hold no problem that is reported on, even where the corpus was not searched for it.
    sought = recipe.corpus.decontamination.covering(recipe.evaluate.benchmarks)

    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.synthesis import synthesize

        return synthesize(
            recipe.synthesize, recipe.seed, inputs["annotate"], inputs["tokenizer"], work, sought,
            redaction=recipe.corpus.redaction, licenses=recipe.corpus.licenses, encoder=recipe.annotate, standard=inputs["corpus"] / "standard",
        )  # fmt: skip

    def external() -> dict[str, str]:  # the corpus's too: a problem that its documents lack may be in what a model writes
        return {"benchmarks": sought.fingerprint()}

    corpus = {"decontamination": sought.identity(), "redaction": recipe.corpus.redaction.identity(), "licenses": recipe.corpus.licenses.identity()}
    settings, needs = recipe.synthesize.identity() | corpus, ("corpus", "annotate", "tokenizer")
    keeps, budget, parts = (JOURNAL,), recipe.budget.get("synthesize"), {"synthetic": ("corpus/standard", "annotate", "tokenizer")}
    return Stage("synthesize", "synthesize", "4-synthesize", 4, settings, run, needs, _STANDARD, parts, external=external, keeps=keeps, budget=budget)


def _made(recipe: Recipe) -> dict[str, str]:
    """Tier -> the stage that makes it, of those that training reads and the corpus does not make."""
    used = recipe.used_tiers()
    return {tier: maker for tier, maker in {"high_quality": "annotate", "synthetic": "synthesize"}.items() if tier in used}


def _tiers(inputs: Inputs, made: Mapping[str, str]) -> dict[str, Path]:
    """Tier -> the folder of its documents."""
    return {"standard": inputs["corpus"] / "standard", **{tier: inputs[maker] / tier for tier, maker in made.items()}}


def _tokenize(recipe: Recipe) -> Stage:
    made = _made(recipe)

    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.tokens import tokenize

        return tokenize(recipe.tokenize, recipe.seed, {**_tiers(inputs, made), "heldout": inputs["corpus"] / "heldout"}, inputs["tokenizer"], work)

    needs = ("corpus", "tokenizer", *made.values())
    reads = {"corpus": ("standard", "heldout"), **{maker: (tier,) for tier, maker in made.items()}}
    parts = {tier: (f"{maker}/{tier}", "tokenizer") for maker, tiers in reads.items() for tier in tiers}
    return Stage("tokenize", "tokenize", "5-tokenize", 1, recipe.tokenize.identity(), run, needs, reads, parts, budget=recipe.budget.get("tokenize"))


def _train(recipe: Recipe, crew: Crew | None) -> list[Stage]:
    """One stage a phase, each standing on the one before: changing the last phase leaves the first alone."""
    stages: list[Stage] = []
    total = sum(phase.tokens for phase in recipe.train.phases.values())
    previous = BASE if base_stages(recipe) else None
    for phase, settings in recipe.train.phases.items():
        stages.append(_train_phase(recipe, phase, previous, settings.tokens / total, crew))
        previous = stages[-1].name
    return stages


def _train_phase(recipe: Recipe, phase: str, previous: str | None, share: float, crew: Crew | None) -> Stage:
    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.training import train_phase

        if crew and crew.leader:
            crew.tell(f"train {phase}")
        before = inputs[previous] if previous else base_checkpoint(recipe)
        seed, read = recipe.training_seed, (inputs["tokenize"], inputs["tokenizer"])
        return train_phase(recipe.train, phase, recipe.model, recipe.layout, seed, *read, before, work, crew)

    # The layout is left out: the same samples in the same order make the same model under any layout.
    shared = {name: value for name, value in recipe.train.identity().items() if name != "phases"}
    settings = {"model": recipe.model.identity(), "train": shared, "phase": recipe.train.phases[phase].identity()}
    needs = ("tokenizer", "tokenize", *((previous,) if previous else ()))
    tiers = {"tokenize": tuple(sorted({*recipe.train.phases[phase].mix, *recipe.train.validated(recipe.train.phases[phase])}))}
    budget = recipe.budget.get("train")
    seconds = None if budget is None else round(budget * share)
    external = partial(base_fingerprint, recipe) if previous is None else dict
    return Stage(f"train {phase}", "train", f"6-train/{phase}", 2, settings, run, needs, tiers, phase=phase, external=external, budget=seconds)


def _share(recipe: Recipe, arrow: str) -> int | None:
    """An arrow's budget, split evenly over the phases."""
    return recipe.budget[arrow] // len(recipe.train.phases) if arrow in recipe.budget else None


def _convert(recipe: Recipe, phase: str) -> Stage:
    trained = f"train {phase}"

    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.convert import to_hugging_face

        return to_hugging_face(inputs[trained], inputs["tokenizer"], work)

    return Stage(f"convert {phase}", "convert", f"7-convert/{phase}", 1, {}, run, (trained, "tokenizer"), phase=phase, budget=_share(recipe, "convert"))


def _evaluate(recipe: Recipe, phase: str) -> Stage:
    model, made = f"convert {phase}", _made(recipe)

    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.evaluation import evaluate

        folders = inputs[model], inputs["corpus"], work
        return evaluate(recipe.evaluate, recipe.seed, *folders, tiers=_tiers(inputs, made), annotated=inputs.get("annotate"))

    def external() -> dict[str, str]:
        return {f"problems {one.name}": one.fingerprint() for one in recipe.evaluate.benchmarks}

    settings = recipe.evaluate.identity()
    needs, budget = (model, "corpus", *made.values()), _share(recipe, "evaluate")  # training stands on these tiers anyway: no more is redone
    return Stage(f"evaluate {phase}", "evaluate", f"8-evaluate/{phase}", 3, settings, run, needs, phase=phase, external=external, budget=budget)


def _report(recipe: Recipe, stages: list[Stage]) -> Stage:
    def run(inputs: Inputs, work: Path) -> Counts:
        from megatron_snow.report import build

        return build(inputs, recipe.model_dump(mode="json"), work)

    needs = tuple(stage.name for stage in stages)
    return Stage("report", "report", "9-report", 3, recipe.model_dump(mode="json"), run, needs, budget=recipe.budget.get("report"))
