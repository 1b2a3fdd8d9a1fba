"""What the paper reports, to stand beside this run's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from megatron_snow.report.numbers import wilson

MODELS = {"general": "alpha, 500B tokens", "continued": "beta, + 50B", "enhanced": "final, + 5B"}
"""Phase -> the paper's name for the model after it."""


@dataclass(frozen=True)
class Column:
    """One benchmark of a table."""

    title: str
    problems: int
    scores: Mapping[str, float]
    """Phase -> greedy pass@1 in per cent."""

    def interval(self, phase: str) -> tuple[float, float]:
        """Wilson's 95 % interval of a score, in per cent: the paper gives none (a score is so many of the problems, rounded)."""
        low, high = wilson(round(self.scores[phase] / 100 * self.problems), self.problems)
        return 100 * low, 100 * high


def _column(title: str, problems: int, *scores: float) -> Column:
    return Column(title, problems, dict(zip(MODELS, scores, strict=True)))


TABLE_2 = {  # arXiv 2409.02326, table 2: Arctic-SnowCoder-1.3B
    "humaneval+": _column("HumanEval+", 164, 14.0, 21.3, 28.0),
    "mbpp+": _column("MBPP+", 378, 27.8, 34.7, 42.9),
    "evoeval": _column("EvoEval", 500, 7.4, 12.8, 18.0),
    "bigcodebench/complete": _column("BigCodeBench", 1140, 10.3, 12.3, 19.4),
}
"""By the name a recipe gives the benchmark."""
