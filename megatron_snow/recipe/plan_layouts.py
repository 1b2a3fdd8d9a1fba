"""Which layouts of a number of GPUs hold the model, and which of them is fastest by ``step_time``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.settings import ModelSettings, Recompute
from megatron_snow.parallel.settings import Layout, Precision
from megatron_snow.recipe.step_time import NODE, Cluster, StepTime, step_time
from megatron_snow.training.memory import MemoryEstimate, estimate_memory
from megatron_snow.training.settings import PhaseSettings

SHOWN = 5  # layouts that differ in more than micro-batch, recomputation and interleaving (ours: what one looks at)
TELLS = 0.03  # of a step's time; ours: what the model leaves out is more than that
_MICRO_BATCHES = (1, 2, 4, 8)  # ours: beyond that a micro-batch of 4,096 tokens and more fills any GPU
_CONTEXT = (1, 2, 4, 8)
_DEEPEST = 16  # pipeline stages; ours: deeper ones are all bubble at these batches
_MOST_PIECES = 4  # of a stage; ours: Megatron-LM's published runs use 2 to 4


@dataclass(frozen=True)
class Candidate:
    """A layout that runs, with what it needs."""

    layout: Layout
    recompute: Recompute
    micro_batch: int
    memory: MemoryEstimate
    step: StepTime


def evaluate(
    model: ModelSettings, vocabulary: int, phase: PhaseSettings, layout: Layout, precision: Precision, recompute: Recompute, cluster: Cluster
) -> Candidate:
    """One layout on the cluster. Raises SnowError where it cannot run the phase on so many GPUs."""
    for batch in phase.batches:
        layout.check(model, vocabulary, phase.sequence, batch, phase.micro_batch, cluster.gpus)
    memory = estimate_memory(model, vocabulary, phase, layout, precision, recompute, cluster.gpus)
    return Candidate(layout, recompute, phase.micro_batch, memory, step_time(model, vocabulary, phase, layout, recompute, cluster))


def propose(model: ModelSettings, vocabulary: int, phase: PhaseSettings, precision: Precision, cluster: Cluster) -> list[Candidate]:
    """The fastest layouts that fit, at most ``SHOWN``, each with the micro-batch, recomputation and interleaving that make it fastest.

    Among layouts within ``TELLS`` of the fastest the simplest comes first: the model is not finer than that.
    """
    groups: dict[tuple[int, int, int], list[Candidate]] = {}
    for found in _fitting(model, vocabulary, phase, precision, cluster):
        groups.setdefault((found.layout.tensor, found.layout.pipeline, found.layout.context), []).append(found)
    return _ranked([_ranked(group)[0] for group in groups.values()])[:SHOWN]


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Fastest first, but among those that the model cannot tell from the fastest the simplest."""
    if not candidates:
        return []
    fastest = min(candidate.step.total for candidate in candidates)
    equals = [candidate for candidate in candidates if candidate.step.total <= fastest * (1 + TELLS)]
    others = [candidate for candidate in candidates if candidate.step.total > fastest * (1 + TELLS)]
    return sorted(equals, key=_complexity) + sorted(others, key=lambda candidate: (candidate.step.total, _complexity(candidate)))


def _complexity(candidate: Candidate) -> tuple[float, ...]:
    """Processes that share a model, pieces of a stage, recomputation; then the larger micro-batch, the smaller memory."""
    layout = candidate.layout
    again = get_args(Recompute).index(candidate.recompute)
    return layout.model_parallel, layout.pipeline, layout.virtual_pipeline or 1, again, -candidate.micro_batch, candidate.memory.total


def _fitting(model: ModelSettings, vocabulary: int, phase: PhaseSettings, precision: Precision, cluster: Cluster) -> Iterator[Candidate]:
    for layout in _layouts(model, cluster.gpus):
        for micro_batch in _MICRO_BATCHES:
            sized = phase.model_copy(update={"micro_batch": micro_batch})
            for recompute in get_args(Recompute):
                try:
                    found = evaluate(model, vocabulary, sized, layout, precision, recompute, cluster)
                except SnowError:
                    break  # no recomputation mends a layout that does not divide
                if found.memory.total <= cluster.usable:
                    yield found


def _layouts(model: ModelSettings, gpus: int) -> Iterator[Layout]:
    """Every layout over ``gpus``; tensor parallelism stays within a node and always splits the residual stream too."""
    for tensor in (size for size in (1, 2, 4, 8) if size <= min(NODE, gpus)):
        for pipeline in (size for size in range(1, _DEEPEST + 1) if model.layers % size == 0):
            for context in _CONTEXT:
                if gpus % (tensor * pipeline * context):
                    continue
                for pieces in (None, *range(2, _MOST_PIECES + 1)) if pipeline > 1 else (None,):
                    yield Layout(tensor=tensor, pipeline=pipeline, context=context, virtual_pipeline=pieces, sequence_parallel=tensor > 1)
