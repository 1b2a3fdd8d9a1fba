"""Which benchmarks a corpus must not hold: one item of ``corpus.decontamination.benchmarks``."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator, model_validator

from megatron_snow.artifacts.settings import Settings
from megatron_snow.benchmarks import sources
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.wordings import WORDINGS, Wording, load_wordings, wordings_fingerprint

_KNOWN = (*sources.BENCHMARKS, *sources.GROUPS, *WORDINGS)


class SoughtBenchmark(Settings):
    """A name alone (``mbpp+``), or ``{name: mbpp+, source: problems/MbppPlus.jsonl.gz}``."""

    name: str
    """A benchmark that evaluation knows (``humaneval+``, ``mbpp+``, ``evoeval``, ``bigcodebench/complete``, ...), or ``apps``, ``gsm8k``, ``ds1000``."""
    source: str = ""
    """A file as published, the folder it lies in, or a data set of the Hugging Face hub. Left out: the folder that $SNOW_BENCHMARKS names, else the hub."""

    @model_validator(mode="before")
    @classmethod
    def _from_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in _KNOWN:
            raise ValueError(f"unknown benchmark; there are: {', '.join(_KNOWN)}")
        return name

    def load(self) -> list[Problem] | list[Wording]:
        """The problems. Raises SnowError where they cannot be read."""
        return load_wordings(self.name, self.source) if self.name in WORDINGS else sources.load(self.name, self.source)

    def fingerprint(self) -> str:
        """Changes when a local file behind it does."""
        return wordings_fingerprint(self.name, self.source) if self.name in WORDINGS else sources.fingerprint(self.name, self.source)
