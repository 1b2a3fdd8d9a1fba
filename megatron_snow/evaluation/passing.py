"""pass@k of one benchmark: a model completes its prompts, each completion is run against the problem's tests.

A sample passes where its program (``programs``) runs to its end within the sandbox's limits. Every judged sample is written to a journal at once:
a killed run goes on with the samples it lacks.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypedDict

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.evaluation import programs, statistics
from megatron_snow.evaluation.generation import Completion
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.sandbox import Result, run_many

Sample = tuple[Problem, int, Completion]
"""The completion that a problem's sample of this number got."""

_TOLD = ("PlusError", "AssertionError", "TimeoutError", "SyntaxError", "IndentationError", "TabError")
"""Errors of the checker that say which tests failed (a TimeoutError: a base one); after others, the base tests are run alone."""
COUNTS = (1, 10, 100)  # the k of pass@k that the literature reports (arXiv 2107.03374)


class Verdict(TypedDict):
    """A row of a benchmark's journal."""

    task_id: str
    sample: int
    completion: str
    finish: str
    """How generation ended (``generation.Finish``)."""
    passed: bool
    base_passed: bool
    """The base tests alone; the same as ``passed`` where the problem has no further ones."""
    reason: str
    """``passed``, ``wrong answer``, ``syntax error``, ``exception``, ``ended early`` (before the tests' end), ``prompt too long``, or the sandbox's
    word: ``timeout``, ``memory``, ..."""


class Writer(Protocol):
    """Completes the samples ``(problem, number)`` asked for, some at a time, in any order; those ``done``, by task and number, may be left out."""

    def __call__(self, asked: Sequence[tuple[Problem, int]], done: Container[tuple[str, int]]) -> Iterator[list[Sample]]: ...


def judge(samples: Iterable[Sample], settings: EvaluateSettings) -> Iterator[Verdict]:
    """Run each completion against its tests; verdicts in the order given."""
    known = list(samples)
    limits, workers = settings.sandbox, len(os.sched_getaffinity(0))
    source = programs.answered if settings.chat else programs.whole
    sources = [source(problem, completion.text) for problem, _, completion in known]

    def tests(base_only: bool, which: Sequence[int]) -> Iterator[Result]:
        texts = (programs.program(known[i][0], sources[i], settings.call_seconds, limits.timeout, base_only) for i in which)
        return run_many(texts, workers, limits, to_the_end=True)

    results = list(tests(False, range(len(known))))
    base = {i: "PlusError" in _last_line(result) for i, result in enumerate(results)}
    unclear = [i for i, result in enumerate(results) if known[i][0].plus_inputs and result.status != "passed" and _last_line(result) not in _TOLD]
    base |= {i: result.status == "passed" for i, result in zip(unclear, tests(True, unclear), strict=True)}
    for i, ((problem, sample, completion), result) in enumerate(zip(known, results, strict=True)):
        reason = "prompt too long" if completion.finish == "prompt too long" else _reason(result)
        passed = reason == "passed"
        yield Verdict(
            task_id=problem.task_id, sample=sample, completion=completion.text, finish=completion.finish, passed=passed, base_passed=passed or base[i],
            reason=reason,
        )  # fmt: skip


def _last_line(result: Result) -> str:
    return (result.stderr.strip().splitlines() or [""])[-1].split(":")[0]


def _reason(result: Result) -> str:
    if result.status != "failed":
        return result.status
    if result.exit_code == 0:
        return "ended early"
    error = _last_line(result)
    if error in ("SyntaxError", "IndentationError", "TabError"):
        return "syntax error"
    if error == "TimeoutError":
        return "timeout"
    return "wrong answer" if error in ("AssertionError", "PlusError") else "exception"


def read_journal(path: Path) -> dict[tuple[str, int], Verdict]:
    """Whole rows of a journal by task and sample; a last line cut by a kill is dropped from the file."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        write_atomically(path, whole)
    return {(row["task_id"], row["sample"]): row for row in map(json.loads, whole.splitlines())}


def run(name: str, problems: Sequence[Problem], write: Writer, settings: EvaluateSettings, journal: Path) -> list[Verdict]:
    """Complete and judge what the journal lacks; all verdicts, by problem and sample.

    Samples are asked for in the order of their prompts' lengths.
    """
    done = read_journal(journal)
    asked = [(problem, sample) for problem in problems for sample in range(settings.samples)]
    order = sorted(asked, key=lambda one: (len(one[0].prompt), one[0].task_id, one[1]))
    with Progress(name, total=len(order), unit="samples") as bar, journal.open("a") as file:
        bar.advance(sum((problem.task_id, sample) in done for problem, sample in order))
        for written in write(order, set(done)):
            missing = [one for one in written if (one[0].task_id, one[1]) not in done]
            for verdict in judge(missing, settings):
                done[verdict["task_id"], verdict["sample"]] = verdict
                file.write(json.dumps(verdict) + "\n")
                file.flush()
            bar.advance(len(missing), note=f"{sum(row['passed'] for row in done.values())} passed")
    verdicts = [done[problem.task_id, sample] for problem, sample in asked]
    write_atomically(journal, "".join(json.dumps(row) + "\n" for row in verdicts).encode())
    return verdicts


def shares(verdicts: Sequence[Verdict], key: str = "passed") -> dict[str, tuple[int, int]]:
    """(samples, passing samples) of each task."""
    found: dict[str, tuple[int, int]] = {}
    for row in verdicts:
        samples, passed = found.get(row["task_id"], (0, 0))
        found[row["task_id"]] = (samples + 1, passed + int(row[key]))  # type: ignore[literal-required]
    return found


def pass_at(counts: Sequence[tuple[int, int]], seed: int) -> dict[str, dict[str, float]]:
    """pass@k with its interval for each k of ``COUNTS`` that the samples allow."""
    least = min(samples for samples, _ in counts)
    return {str(k): asdict(statistics.bootstrap([statistics.pass_at_k(samples, passed, k) for samples, passed in counts], seed)) for k in COUNTS if k <= least}


def summary(verdicts: Sequence[Verdict], settings: EvaluateSettings, plus: bool, seed: int) -> dict[str, Any]:
    """A benchmark's entry in results.json, but for its bits per byte. ``plus``: whether there are further tests beside the base ones."""
    if not verdicts:
        raise SnowError("no problem to score; raise evaluate.problem_limit, or leave it out")
    return {
        "problems": len(shares(verdicts)), "samples": settings.samples, "temperature": settings.temperature,
        "pass_at": pass_at(list(shares(verdicts).values()), seed),
        "base_pass_at": pass_at(list(shares(verdicts, "base_passed").values()), seed) if plus else None,
        "reasons": dict(Counter(row["reason"] for row in verdicts).most_common()),
    }  # fmt: skip
