"""``snow plan``: what will happen, before anything does.

Formulas. Parameters and FLOPs: ``model.settings``. Memory a process in bf16 training with fp32 main parameters and
gradients (Megatron's mixed precision): 2 + 4 + 4 + 8 bytes a parameter for weights, main weights, gradients and Adam's two
moments, of which main weights and moments are shared by the data-parallel replicas (distributed optimizer); in fp32
4 + 4 + 8. Activations: 34 x sequence x micro-batch x hidden bytes a layer (Korthikanti et al. 2022, equation 2, without the
attention scores, which flash attention never stores), at 16 bits, twice that in fp32; logits: vocabulary x sequence x
micro-batch x 10 bytes (bf16 logits, fp32 copy and gradient). A checkpoint holds weights, main weights and moments. Hours:
FLOPs at the stated share of an H100's 989 TFLOP/s (NVIDIA's data sheet, dense bf16).
"""

from __future__ import annotations

import json

from megatron_snow.artifacts.units import format_bytes, format_count, format_seconds
from megatron_snow.model.settings import flops_per_token, padded_vocabulary, parameters
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road
from megatron_snow.training.settings import PhaseSettings

H100_FLOPS = 989e12  # NVIDIA H100 SXM data sheet: dense bf16
ASSUMED_MFU = 0.40  # ours: what Megatron-LM publishes for models of this size on H100 is 0.35-0.45


def render_plan(recipe: Recipe, road: Road) -> str:
    """The plan as text. Raises SnowError where the layout cannot run the model."""
    return "\n".join([f"{recipe.name} -> {road.out}", "", *_arrows(road), "", *_model(recipe, road), "", *_phases(recipe, road)])


def _arrows(road: Road) -> list[str]:
    lines = [f"  {'arrow':<20} {'state':<8} {'budget':>12}  why"]
    for name, stage in road.stages.items():
        status = road.status(name)
        lines.append(f"  {name:<20} {status.state:<8} {format_seconds(stage.budget) if stage.budget else '':>12}  {status.why}")
    budget = sum(stage.budget or 0 for stage in road.stages.values())
    return [*lines, f"  {'all':<20} {'':<8} {format_seconds(budget):>12}"] if budget else lines


def _vocabulary(recipe: Recipe, road: Road) -> tuple[int, str]:
    """Tokens of the tokenizer, and where the number is from."""
    made = road.folder("tokenizer") / "tokenizer.json"
    if made.exists() and road.status("tokenizer").state == "done":
        tree = json.loads(made.read_bytes())
        return max([*tree["model"]["vocab"].values(), *(token["id"] for token in tree["added_tokens"])]) + 1, "from the trained tokenizer"
    if recipe.tokenizer.train:
        return recipe.tokenizer.train.vocabulary, "as the recipe asks"
    return 64_000, "assumed (the paper's) until the given tokenizer is read"


def _model(recipe: Recipe, road: Road) -> list[str]:
    model, (vocabulary, origin) = recipe.model, _vocabulary(recipe, road)
    padded = padded_vocabulary(model, vocabulary)
    processes = recipe.layout.processes(1)
    for phase in recipe.train.phases.values():
        recipe.layout.check(model, padded, phase.sequence, phase.batch, phase.micro_batch, processes)
    return [
        f"Model: {format_count(parameters(model, padded))} parameters: hidden {model.hidden}, ffn {model.ffn}, {model.layers} layers, {model.heads} heads, "
        f"{model.kv_heads} key/value heads, {'tied' if model.tied else 'untied'} embeddings; vocabulary {vocabulary} ({origin}), padded to {padded}",
        f"Layout: {recipe.layout.describe()}, {recipe.train.precision}; the least is {processes} process{'es' if processes > 1 else ''}",
        *_memory(recipe, padded),
    ]


def _memory(recipe: Recipe, vocabulary: int) -> list[str]:
    count = parameters(recipe.model, vocabulary)
    split = recipe.layout.tensor * recipe.layout.pipeline
    full = recipe.train.precision == "fp32"
    weights, main, gradients, moments = (4, 0, 4, 8) if full else (2, 4, 4, 8)
    fixed = count / split * (weights + gradients + (main + moments) / (recipe.layout.data or 1))
    element = 2 if full else 1  # the formula counts bytes at 16 bits
    largest = max(recipe.train.phases.values(), key=lambda phase: phase.sequence * phase.micro_batch)
    tokens = largest.sequence * largest.micro_batch / recipe.layout.context
    activations = (
        element * 34 * tokens * recipe.model.hidden * recipe.model.layers / recipe.layout.tensor
    )  # every stage of 1F1B holds as many micro-batches as stages
    logits = 10 * tokens * vocabulary / recipe.layout.tensor
    return [
        f"Memory a process: {format_bytes(fixed)} weights, gradients, optimizer + {format_bytes(activations)} activations + {format_bytes(logits)} logits "
        f"= {format_bytes(fixed + activations + logits)}; a checkpoint {format_bytes(count * (weights + main + moments))}"
    ]


def _phases(recipe: Recipe, road: Road) -> list[str]:
    vocabulary = padded_vocabulary(recipe.model, _vocabulary(recipe, road)[0])
    lines = [f"  {'phase':<12} {'tokens':>8} {'steps':>8} {'batch x sequence':>17} {'learning rate':<34} {'FLOPs':>9} {'H100 hours':>11}  data"]
    total = 0.0
    for name, phase in recipe.train.phases.items():
        flops = phase.tokens * flops_per_token(recipe.model, vocabulary, phase.sequence)
        total += flops
        blend = ", ".join(f"{tier} {weight:g}" for tier, weight in phase.mix.items())
        lines.append(
            f"  {name:<12} {format_count(phase.tokens):>8} {phase.steps:>8,} {f'{phase.batch} x {phase.sequence}':>17} {_rate(phase):<34} "
            f"{flops:>9.3g} {_hours(flops):>11,.3g}  {blend}"
        )
    lines.append(
        f"  {'all':<12} {format_count(sum(p.tokens for p in recipe.train.phases.values())):>8} {'':>8} {'':>17} {'':<34} {total:>9.3g} {_hours(total):>11,.3g}"
    )
    return [*lines, f"  H100 hours: at {ASSUMED_MFU:.0%} of 989 TFLOP/s, the share assumed for planning"]


def _hours(flops: float) -> float:
    return flops / (ASSUMED_MFU * H100_FLOPS) / 3600


def _rate(phase: PhaseSettings) -> str:
    rate = phase.learning_rate
    return f"{phase.steps_of(rate.warmup)} warm-up, {rate.decay} {rate.peak:g} -> {rate.end:g}"
