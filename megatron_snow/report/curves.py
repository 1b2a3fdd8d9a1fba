"""A phase's metrics as columns of numbers: a run of 120,000 steps is read a row at a time and kept in a few megabytes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from megatron_snow.report.inputs import Artefact
from megatron_snow.report.summaries import MetricsRow

MEASURES = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds", "memory", "mfu")


@dataclass
class Metrics:
    """Rows of metrics.jsonl, a column each; NaN where a row has no (finite) value."""

    step: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in MEASURES})

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, name: str) -> Sequence[float]:
        return self.columns[name]

    def finite(self, name: str) -> list[float]:
        """A column without what was not measured."""
        return [value for value in self.columns[name] if math.isfinite(value)]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(tokens, value) of every row."""
        return list(zip(self.tokens, self.columns[name], strict=True))


def read_metrics(artefact: Artefact) -> Metrics:
    """A phase's metrics.jsonl, empty where it has none. Raises SnowError naming a broken line."""
    found = Metrics()
    for row in artefact.stream("metrics.jsonl", MetricsRow):
        found.step.append(row.step)
        found.tokens.append(row.tokens)
        for name in MEASURES:
            value = getattr(row, name)
            found.columns[name].append(math.nan if value is None else value)
    return found
