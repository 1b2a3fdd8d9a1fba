"""Which benchmarks a corpus must not hold: one item of ``corpus.decontamination.benchmarks``."""

from __future__ import annotations

from typing import ClassVar

from megatron_snow.benchmarks import sources
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.settings import NamedBenchmark
from megatron_snow.benchmarks.wordings import WORDINGS, Wording, load_wordings, wordings_fingerprint


class SoughtBenchmark(NamedBenchmark):
    """A benchmark that evaluation knows, or one whose texts alone are known here: ``apps``, ``gsm8k``, ``ds1000``."""

    known: ClassVar[tuple[str, ...]] = (*NamedBenchmark.known, *WORDINGS)

    def load(self) -> list[Problem] | list[Wording]:
        """The problems. Raises SnowError where they cannot be read."""
        return load_wordings(self.name, self.source) if self.name in WORDINGS else sources.load(self.name, self.source)

    def fingerprint(self) -> str:
        """Changes when a local file behind it does."""
        return wordings_fingerprint(self.name, self.source) if self.name in WORDINGS else sources.fingerprint(self.name, self.source)
