"""``snow plan``: what will happen, before anything does.

Where its numbers are from. Parameters and FLOPs: ``model.settings``. Memory of a rank: ``training.memory``. Time of a step:
``recipe.step_time``. Layouts that fit a number of GPUs: ``recipe.plan_layouts``. A checkpoint holds weights, main weights
and moments.
"""

from __future__ import annotations

import json
from typing import Any

from megatron_snow.artifacts.units import format_bytes, format_count, format_seconds
from megatron_snow.model.settings import flops_per_token, padded_vocabulary, parameters
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.recipe.plan_layouts import Candidate, evaluate, propose
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road
from megatron_snow.recipe.step_time import ASSUMED_MFU, H100_FLOPS, RESERVED, Cluster, step_time
from megatron_snow.training.memory import MemoryEstimate, checkpoint_bytes, estimate_memory
from megatron_snow.training.settings import PhaseSettings

_DAY = 86_400
_PARTS = ("parameters", "gradients", "optimizer", "activations", "working", "runtime")
_COUNTED = ("documents", "tokens", "selected", "selected_tokens", "accepted", "accepted_tokens")  # of what arrows count, what the plan is read for


def render_plan(recipe: Recipe, road: Road, cluster: Cluster | None = None) -> str:
    """The plan as text, for a number of GPUs where a cluster is given.

    Raises:
        SnowError: where the layout cannot run the model, or not on so many GPUs.
    """
    return "\n".join([f"{recipe.name} -> {road.out}", "", *_arrows(road), "", *_unsought(recipe), *render_training(recipe, road, cluster)])


def plan_values(recipe: Recipe, road: Road, cluster: Cluster | None = None) -> dict[str, Any]:
    """The plan for programs.

    Arrows (state, why, budget in seconds, what a done one counted), parameters, bytes of a checkpoint, ``memory`` (bytes of the rank that needs
    most, by what they are for, on how many ``processes``; ``usable`` of a GPU of the cluster), and phases: with a cluster ``step_seconds``,
    ``hours`` and ``gpu_hours``, without one ``h100_hours`` as the text has them. ``unsought``: benchmarks reported on that the corpus is not
    searched for.
    """
    vocabulary = _padded(recipe, road)
    processes, memory = _most_memory(recipe, vocabulary, cluster)
    arrows = {
        name: {
            "state": status.state,
            "why": status.why,
            "budget": road.stages[name].budget,
            "counts": status.manifest.counts if status.state == "done" and status.manifest else None,
        }
        for name, status in road.statuses().items()
    }
    phases = {
        name: {
            "tokens": phase.tokens, "steps": phase.steps, "batch": phase.batch, "sequence": phase.sequence, "blend": phase.mix,
            "flops": phase.tokens * flops_per_token(recipe.model, vocabulary, phase.sequence), **_time_values(recipe, vocabulary, phase, cluster),
        }
        for name, phase in recipe.train.phases.items()
    }  # fmt: skip
    model = parameters(recipe.model, vocabulary)
    return {
        "name": recipe.name, "out": str(road.out), "arrows": arrows, "unsought": _unsought_names(recipe), "parameters": model, "vocabulary": vocabulary,
        "checkpoint_bytes": checkpoint_bytes(model, recipe.train.precision), "phases": phases,
        "memory": {name: round(getattr(memory, name)) for name in (*_PARTS, "total")}
        | {"processes": processes, "usable": round(cluster.usable) if cluster else None},
    }  # fmt: skip


def render_training(recipe: Recipe, road: Road, cluster: Cluster | None = None) -> list[str]:
    """The part of the plan that does not depend on what is done already: model, memory, phases, layouts."""
    lines = [*_model(recipe, road), *_memory(recipe, road, cluster), "", *_phases(recipe, road, cluster)]
    return [*lines, "", *_layouts(recipe, road, cluster)] if cluster else lines


def _arrows(road: Road) -> list[str]:
    lines = [f"  {'arrow':<20} {'state':<8} {'budget':>12}  why"]
    for name, status in road.statuses().items():
        stage = road.stages[name]
        counted = _counted(status.manifest.counts) if status.state == "done" and status.manifest else ""
        lines.append(f"  {name:<20} {status.state:<8} {format_seconds(stage.budget) if stage.budget else '':>12}  {status.why}{counted}")
    budget = sum(stage.budget or 0 for stage in road.stages.values())
    return [*lines, f"  {'all':<20} {'':<8} {format_seconds(budget):>12}"] if budget else lines


def _unsought_names(recipe: Recipe) -> list[str]:
    return [one.name for one in recipe.corpus.decontamination.unsought(recipe.evaluate.benchmarks)]


def _unsought(recipe: Recipe) -> list[str]:
    """A warning where a score could be recall."""
    if not (names := _unsought_names(recipe)):
        return []
    listed = ", ".join(names)
    return [f"Warning: evaluate reports on {listed}, which the corpus is not searched for; add to corpus.decontamination.benchmarks: [{listed}]", ""]


def _counted(counts: dict[str, Any]) -> str:
    """The documents and tokens that a done arrow counted."""
    found = [f"{format_count(counts[name])} {name.replace('_', ' ')}" for name in _COUNTED if isinstance(counts.get(name), int)]
    return f": {', '.join(found)}" if found else ""


def _vocabulary(recipe: Recipe, road: Road) -> tuple[int, str]:
    """Tokens of the tokenizer, and where the number is from."""
    made = road.folder("tokenizer") / "tokenizer.json"
    if made.exists() and road.status("tokenizer").state == "done":
        tree = json.loads(made.read_bytes())
        return max([*tree["model"]["vocab"].values(), *(token["id"] for token in tree["added_tokens"])]) + 1, "from the trained tokenizer"
    if recipe.tokenizer.train:
        return recipe.tokenizer.train.vocabulary, "as the recipe asks"
    return 64_000, "assumed (the paper's) until the given tokenizer is read"


def _padded(recipe: Recipe, road: Road) -> int:
    return padded_vocabulary(recipe.model, _vocabulary(recipe, road)[0])


def _model(recipe: Recipe, road: Road) -> list[str]:
    model, (vocabulary, origin) = recipe.model, _vocabulary(recipe, road)
    padded = padded_vocabulary(model, vocabulary)
    processes = recipe.layout.processes(1)
    for phase in recipe.train.phases.values():
        for batch in phase.batches:
            recipe.layout.check(model, padded, phase.sequence, batch, phase.micro_batch, processes)
    return [
        f"Model: {format_count(parameters(model, padded))} parameters: hidden {model.hidden}, ffn {model.ffn}, {model.layers} layers, {model.heads} heads, "
        f"{model.kv_heads} key/value heads, {'tied' if model.tied else 'untied'} embeddings; vocabulary {vocabulary} ({origin}), padded to {padded}",
        f"Layout: {recipe.layout.describe()}, {recipe.train.precision}; the least is {processes} process{'es' if processes > 1 else ''}",
    ]


def _most_memory(recipe: Recipe, vocabulary: int, cluster: Cluster | None) -> tuple[int, MemoryEstimate]:
    """The processes, and what the rank that needs most takes in the phase that needs most."""
    train = recipe.train
    processes = cluster.gpus if cluster else recipe.layout.processes(1)
    estimates = [
        estimate_memory(
            recipe.model,
            vocabulary,
            phase,
            recipe.layout,
            train.precision,
            train.recompute,
            processes,
            "transformer_engine" if _on_gpu(cluster) else "cpu",
            "fused" if train.loss == "fused" else "logits",
        )
        for phase in train.phases.values()
    ]
    return processes, max(estimates, key=lambda estimate: estimate.total)


def _on_gpu(cluster: Cluster | None) -> bool:
    return cluster is not None or has_cuda_driver()


def _memory(recipe: Recipe, road: Road, cluster: Cluster | None) -> list[str]:
    vocabulary, train = _padded(recipe, road), recipe.train
    _, most = _most_memory(recipe, vocabulary, cluster)
    stage = f", pipeline stage {most.stage + 1} of {recipe.layout.pipeline}" if recipe.layout.pipeline > 1 else ""
    fits = ""
    if cluster:
        fits = f" of {format_bytes(cluster.usable)}" + ("" if most.total <= cluster.usable else ": DOES NOT FIT")
    checkpoint = checkpoint_bytes(parameters(recipe.model, vocabulary), train.precision)
    return [
        f"Memory a {'GPU' if _on_gpu(cluster) else 'process'}{stage}: {_parts(most)} = {format_bytes(most.total)}{fits}",
        f"Checkpoint: {format_bytes(checkpoint)}, {train.checkpoint.keep} of each phase kept",
    ]


def _parts(memory: MemoryEstimate) -> str:
    return " + ".join(f"{name} {format_bytes(getattr(memory, name))}" for name in _PARTS)


def _step_and_all(recipe: Recipe, vocabulary: int, phase: PhaseSettings, cluster: Cluster) -> tuple[float, float]:
    """Seconds of a step and of the phase."""
    step = step_time(recipe.model, vocabulary, phase, recipe.layout, recipe.train.recompute, cluster).total
    return step, step * phase.tokens_before(phase.steps) / phase.tokens_per_step  # a ramp's smaller steps in proportion


def _time_values(recipe: Recipe, vocabulary: int, phase: PhaseSettings, cluster: Cluster | None) -> dict[str, float]:
    if cluster is None:
        return {"h100_hours": _hours(phase.tokens * flops_per_token(recipe.model, vocabulary, phase.sequence))}
    step, seconds = _step_and_all(recipe, vocabulary, phase, cluster)
    return {"step_seconds": step, "hours": seconds / 3600, "gpu_hours": seconds / 3600 * cluster.gpus}


def _phases(recipe: Recipe, road: Road, cluster: Cluster | None) -> list[str]:
    vocabulary = _padded(recipe, road)
    time = f"{'step':>8} {'days':>7} {'GPU hours':>10}" if cluster else f"{'H100 hours':>11}"
    lines = [f"  {'phase':<12} {'tokens':>8} {'steps':>8} {'batch x sequence':>17} {'learning rate':<34} {'FLOPs':>9} {time}  data"]
    flops = seconds = 0.0
    for name, phase in recipe.train.phases.items():
        own = phase.tokens * flops_per_token(recipe.model, vocabulary, phase.sequence)
        blend = ", ".join(f"{tier} {weight:.3g}" for tier, weight in phase.mix.items())
        if cluster:
            step, spent = _step_and_all(recipe, vocabulary, phase, cluster)
            time = f"{f'{step:.3g} s':>8} {_spent(spent, cluster)}"
            seconds += spent
        else:
            time = f"{_hours(own):>11,.3g}"
        flops += own
        batch = "-".join(str(size) for size in dict.fromkeys((phase.batches[0], phase.batch)))
        lines.append(
            f"  {name:<12} {format_count(phase.tokens):>8} {phase.steps:>8,} {f'{batch} x {phase.sequence}':>17} {_rate(phase):<34} {own:>9.3g} {time}  {blend}"
        )
    time = f"{'':>8} {_spent(seconds, cluster)}" if cluster else f"{_hours(flops):>11,.3g}"
    lines.append(f"  {'all':<12} {format_count(sum(p.tokens for p in recipe.train.phases.values())):>8} {'':>8} {'':>17} {'':<34} {flops:>9.3g} {time}")
    if cluster:
        return [
            *lines,
            f"  On {cluster.gpus} GPUs of {cluster.memory / 1e9:.0f} GB and {cluster.flops / 1e12:.0f} TFLOP/s at {cluster.mfu:.0%} of that before what "
            "splitting the model costs; validation, saves and lost nodes come on top",
        ]
    return [*lines, f"  H100 hours: at {ASSUMED_MFU:.0%} of 989 TFLOP/s, the share assumed for planning; --gpus N plans for so many"]


def _spent(seconds: float, cluster: Cluster) -> str:
    return f"{seconds / _DAY:>7.3g} {seconds / 3600 * cluster.gpus:>10,.0f}"


def _layouts(recipe: Recipe, road: Road, cluster: Cluster) -> list[str]:
    """The recipe's layout and the fastest that fit, for the phase with most tokens."""
    vocabulary, train = _padded(recipe, road), recipe.train
    name, phase = max(train.phases.items(), key=lambda item: item[1].tokens)
    own = evaluate(recipe.model, vocabulary, phase, recipe.layout, train.precision, train.recompute, cluster)
    found = propose(recipe.model, vocabulary, phase, train.precision, cluster)
    lines = [f"Layouts for {name} on {cluster.gpus} GPUs ({RESERVED:.0%} of the memory kept free):"]
    lines.append(f"  {'':<8} {'layout':<56} {'recompute':<10} {'micro_batch':>11} {'memory':>9} {'step':>8} {'tokens/s':>9} {'MFU':>6}")
    lines += [_layout(label, candidate, recipe, phase, vocabulary, cluster) for label, candidate in (("recipe", own), *(("", one) for one in found))]
    if not found:
        lines.append("  no layout fits: take more GPUs or larger ones, a shorter sequence or a smaller batch")
    return lines


def _layout(label: str, candidate: Candidate, recipe: Recipe, phase: PhaseSettings, vocabulary: int, cluster: Cluster) -> str:
    layout, seconds = candidate.layout, candidate.step.total
    words = layout.model_copy(update={"data": layout.data_parallel(cluster.gpus)}).describe()
    words += f", in {layout.virtual_pipeline} pieces" if layout.virtual_pipeline else ""
    rate = phase.tokens_per_step / seconds
    mfu = rate * flops_per_token(recipe.model, vocabulary, phase.sequence) / (cluster.gpus * cluster.flops)
    memory = format_bytes(candidate.memory.total) + ("" if candidate.memory.total <= cluster.usable else "!")
    return (
        f"  {label:<8} {words:<56} {candidate.recompute:<10} {candidate.micro_batch:>11} {memory:>9} {f'{seconds:.3g} s':>8} "
        f"{format_count(float(f'{rate:.3g}')):>9} {mfu:>6.1%}"
    )


def _hours(flops: float) -> float:
    return flops / (ASSUMED_MFU * H100_FLOPS) / 3600


def _rate(phase: PhaseSettings) -> str:
    rate = phase.learning_rate
    return f"{phase.steps_of(rate.warmup)} warm-up, {rate.decay} {rate.peak:g} -> {rate.end:g}"
