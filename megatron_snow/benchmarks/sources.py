"""The benchmarks by name: where each is found, and its published rows made into ``Problem``.

A benchmark is read from a file, a folder that holds its published file, ``fixture:HumanEval``, or a data set of the Hugging Face hub. Without
a source, HumanEval is the fixture; the others are looked for in the folder that $SNOW_BENCHMARKS names, else on the hub.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import reference_fingerprint, resolve
from megatron_snow.benchmarks import evalplus
from megatron_snow.benchmarks.mbpp import mbpp
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.rows import Row, arguments, locate, read_rows, text

FOLDER_VARIABLE = "SNOW_BENCHMARKS"


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark is published and how its rows read."""

    stem: str
    """How its file's name begins."""
    default: str
    """The fixture, or the data set of the hub."""
    split: str
    """Of the data set."""
    size: int
    """Problems in the published set."""
    problem: Callable[[Row, str, str], Problem]
    """(row, benchmark's name, where the row stands) -> the problem."""


def evoeval(row: Row, name: str, where: str) -> Problem:
    """EvoEval's new problems (Xia et al. 2024, arXiv 2403.19114): ``inputs`` are the arguments of each call as Python text.

    Some prompts lack their last newline, and the published harness joins prompt and solution with one.
    """
    prompt = text(row, "prompt", where)
    solution = text(row, "canonical_solution", where)
    inputs = row.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(one, str) for one in inputs):
        raise SnowError(f"{where}: no list of texts in column 'inputs' (it has {', '.join(sorted(row))}); is this an EvoEval file?")
    return Problem(
        text(row, "task_id", where), prompt, text(row, "entry_point", where), solution if prompt.endswith("\n") else "\n" + solution, benchmark=name,
        style="inputs", base_inputs=tuple(inputs),
    )  # fmt: skip


def bigcodebench(row: Row, name: str, where: str) -> Problem:
    """BigCodeBench's columns (Zhuo et al. 2024, arXiv 2406.15877); ``libs`` is a list written as Python."""
    return Problem(
        text(row, "task_id", where), text(row, "complete_prompt", where), text(row, "entry_point", where), text(row, "canonical_solution", where),
        text(row, "test", where), name, "unittest", instruction=text(row, "instruct_prompt", where), header=str(row.get("code_prompt") or "").rstrip(),
        libraries=tuple(arguments(text(row, "libs", where), where)),
    )  # fmt: skip


def _evoeval(kind: str, size: int = 100) -> Benchmark:
    rows = evalplus.plus if size == 164 else evoeval  # verbose and concise reword HumanEval+ and keep its tests
    return Benchmark(f"EvoEval_{kind}", f"evoeval/EvoEval_{kind}", "test", size, rows)


EVOEVAL = ("evoeval/difficult", "evoeval/creative", "evoeval/subtle", "evoeval/combine", "evoeval/tool_use")
"""The five sets of 100 whose union is the paper's EvoEval score (table 2)."""

BENCHMARKS = {
    "humaneval": Benchmark("HumanEval.", "fixture:HumanEval", "test", 164, evalplus.humaneval),
    "humaneval+": Benchmark("HumanEvalPlus", "evalplus/humanevalplus", "test", 164, evalplus.plus),
    "mbpp": Benchmark("mbpp.", "google-research-datasets/mbpp", "test", 500, mbpp),
    "mbpp+": Benchmark("MbppPlus", "evalplus/mbppplus", "test", 378, evalplus.plus),
    **{name: _evoeval(name.partition("/")[2]) for name in EVOEVAL},
    "evoeval/verbose": _evoeval("verbose", 164),
    "evoeval/concise": _evoeval("concise", 164),
    "bigcodebench/complete": Benchmark("BigCodeBench", "bigcode/bigcodebench", "v0.1.4", 1140, bigcodebench),
    "bigcodebench/instruct": Benchmark("BigCodeBench", "bigcode/bigcodebench", "v0.1.4", 1140, bigcodebench),
}
GROUPS = {"evoeval": EVOEVAL}
"""Names that stand for several benchmarks."""


def names(name: str) -> tuple[str, ...]:
    """The benchmarks a name stands for. Raises SnowError where it is unknown."""
    if name in BENCHMARKS:
        return (name,)
    if name in GROUPS:
        return GROUPS[name]
    raise SnowError(f"unknown benchmark {name!r}; there are: {', '.join((*BENCHMARKS, *GROUPS))}")


def source_of(name: str, source: str = "") -> str:
    """Where benchmark ``name`` is read from: ``source``, or the default (see the module)."""
    if source:
        return source
    default = BENCHMARKS[name].default
    folder = os.environ.get(FOLDER_VARIABLE, "")
    return default if default.startswith("fixture:") or not folder else folder


def load(name: str, source: str = "") -> list[Problem]:
    """The problems of a benchmark, or of a group of them, in file order.

    ``source``: a file, a folder with the published file, a fixture, a data set of the hub (``owner/name``); left out, the default.
    Raises SnowError where the name is unknown, nothing is found, or a row is not one of this benchmark.
    """
    return [problem for one in names(name) for problem in _load(one, source_of(one, source))]


def _load(name: str, source: str) -> list[Problem]:
    benchmark = BENCHMARKS[name]
    paths = locate(resolve(source), benchmark.stem, benchmark.split)
    problems = [benchmark.problem(row, name, where) for path in paths for where, row in read_rows(path)]
    if not problems:
        raise SnowError(f"{source} holds no problem; name a file of the benchmark {name}, or the default, {benchmark.default}")
    _check_unique(problems, source)
    return problems


def _check_unique(problems: Iterable[Problem], source: str) -> None:
    seen: set[str] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise SnowError(f"{source}: the task {problem.task_id} occurs twice; give one file of one version")
        seen.add(problem.task_id)


def fingerprint(name: str, source: str = "") -> str:
    """Changes when a local file behind the benchmark does; empty for fixtures (pinned) and hub names."""
    from megatron_snow.artifacts.settings import digest

    found = []
    for one in names(name):
        where = source_of(one, source)
        path = Path(where)
        files = locate(where, BENCHMARKS[one].stem, "") if path.is_dir() else []
        found += [reference_fingerprint(str(file)) for file in files] or [reference_fingerprint(where)]
    return digest(found) if any(found) else ""
