"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 Python problems, read from a local file or from the pinned fixture."""

from __future__ import annotations

from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.sources import load

__all__ = ["HUMANEVAL", "Problem", "load_humaneval"]

HUMANEVAL = "fixture:HumanEval"


def load_humaneval(source: str = HUMANEVAL) -> list[Problem]:
    """The problems, in file order, from ``source``: see ``sources.load``."""
    return load("humaneval", source)
