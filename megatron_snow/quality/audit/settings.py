"""What an audit of an annotator looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.benchmarks.settings import BenchmarkSettings


class AuditSettings(Settings):
    """One run of ``snow validate-annotator``."""

    benchmarks: tuple[BenchmarkSettings, ...] = ()
    """Whose solutions are ranked against random files: the paper's proxy for an annotator (figure 2)."""
    labels: Path | None = None
    """A CSV with the columns ``path`` and ``label``: people's judgement, as 0 and 1 or on any scale. A path is a file, a document's id, or
    ``repository/path``."""
    files: int = Field(default=1000, ge=20)
    """Random files the annotator has not seen, for the ROC curves and for what it keys on (ours: intervals of a hundredth or two)."""
    edited: int = Field(default=200, ge=0)
    """Of these so many are edited and scored again, each edit once; 0: none."""
    against: tuple[Path, ...] = ()
    """Other annotators to compare ranks with: annotate artefacts, or their scores.parquet."""
    seeds: int = Field(default=0, ge=0)
    """So many annotators more, each with another seed for its samples, split and head; 0: no ablation."""
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples of an interval (Efron and Tibshirani's number)."""
    workers: Annotated[int | None, RUNTIME] = None
    """Processes that run the encoder on a CPU; None: as the annotator's settings say."""
