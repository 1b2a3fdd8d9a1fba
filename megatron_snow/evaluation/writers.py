"""Who completes a benchmark's prompts: the model in this process, or a server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from megatron_snow.benchmarks.problem import Problem
from megatron_snow.evaluation import programs
from megatron_snow.evaluation.generation import Completion, Sampling, complete
from megatron_snow.evaluation.language_model import LanguageModel
from megatron_snow.evaluation.passing import Writer
from megatron_snow.evaluation.settings import EvaluateSettings


def sample_seed(seed: int, problem: Problem, sample: int) -> int:
    """A seed that depends on the sample alone, not on its company or on what was done before a kill."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{problem.benchmark}/{problem.task_id}/{sample}".encode()).digest()[:6], "big")


def local(lm: LanguageModel, settings: EvaluateSettings, seed: int) -> Writer:
    """The model in this process, a batch at a time."""
    sampling = Sampling(settings.temperature, settings.top_p)

    def write(asked: Sequence[tuple[Problem, int]]) -> list[Completion]:
        stops = settings.stop if settings.stop is not None else programs.stops(asked[0][0])
        prompts, seeds = [programs.prompt(problem) for problem, _ in asked], [sample_seed(seed, *one) for one in asked]
        return complete(lm, prompts, settings.max_new_tokens, stops, sampling, seeds)

    return write
