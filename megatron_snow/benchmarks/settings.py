"""Which benchmark, and where its problems are: one item of a recipe's list of benchmarks."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from megatron_snow.artifacts.settings import Settings
from megatron_snow.benchmarks import sources
from megatron_snow.benchmarks.problem import Problem


class NamedBenchmark(Settings):
    """A name alone (``humaneval+``), or ``{name: humaneval+, source: problems/HumanEvalPlus.jsonl.gz}``."""

    known: ClassVar[tuple[str, ...]] = (*sources.BENCHMARKS, *sources.GROUPS)
    """The names there are."""

    name: str
    """``humaneval``, ``humaneval+``, ``mbpp``, ``mbpp+``, ``evoeval/`` difficult, creative, subtle, combine, tool_use, verbose or concise, ``evoeval``
    (the first five, the paper's score), ``bigcodebench/complete`` or ``bigcodebench/instruct``."""
    source: str = ""
    """A file (.jsonl, .jsonl.gz, .jsonl.zst, .json, .parquet) as published, the folder it lies in, or a data set of the Hugging Face hub. Left out:
    the pinned fixture for HumanEval; for the others the folder that $SNOW_BENCHMARKS names, else the data set on the hub."""

    @model_validator(mode="before")
    @classmethod
    def _from_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in cls.known:
            raise ValueError(f"unknown benchmark; there are: {', '.join(cls.known)}")
        return name

    def read_from(self) -> frozenset[tuple[str, str]]:
        """(benchmark, where it is read from) of each benchmark the name stands for."""
        members = sources.names(self.name) if self.name in (*sources.BENCHMARKS, *sources.GROUPS) else ()
        return frozenset((name, sources.source_of(name, self.source)) for name in members) or frozenset({(self.name, self.source)})


class BenchmarkSettings(NamedBenchmark):
    """A benchmark that evaluation runs."""

    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks the name stands for."""
        return sources.names(self.name)

    def load(self) -> list[Problem]:
        """The problems; raises SnowError (``sources.load``)."""
        return sources.load(self.name, self.source)

    def fingerprint(self) -> str:
        """Changes when the local file behind it does (``sources.fingerprint``)."""
        return sources.fingerprint(self.name, self.source)
