"""Benchmarks' solutions ranked against random files: the paper's proxy for what an annotator is worth (figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from megatron_snow.artifacts.documents import Document
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.quality.audit.scorer import Scorer

PYTHON = "Python"  # every benchmark's language


def rank(scorer: Scorer, problems: Mapping[str, Sequence[Problem]], documents: Sequence[Document]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores of each benchmark's solutions (prompt and canonical solution, in its order) and of the Python ``documents``, float64."""
    against = scorer.scores([document["text"] for document in documents], [PYTHON] * len(documents), "scoring unseen Python files")
    solutions = {}
    for name, some in problems.items():
        texts = [problem.prompt + problem.canonical_solution for problem in some]
        solutions[name] = scorer.scores(texts, [PYTHON] * len(texts), f"scoring {name}'s solutions")
    return solutions, against
