"""HumanEval, greedy pass@1: a model continues 164 prompts, each continuation is run against the problem's tests.

Prompts lose their trailing newlines (paper, section 4.1), the program is prompt + completion + tests + check(function), and
it passes where it runs to its end within the sandbox's limits. Every judged completion is written to a journal at once:
a killed run goes on with the problems it lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.benchmarks.humaneval import Problem
from megatron_snow.evaluation.generation import Completion, complete
from megatron_snow.evaluation.language_model import LanguageModel
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.sandbox import Result, SandboxSettings, run_many


class Verdict(TypedDict):
    """A row of humaneval.jsonl."""

    task_id: str
    completion: str
    finish: str
    """How generation ended (``generation.Finish``)."""
    passed: bool
    reason: str
    """``passed``, ``wrong answer``, ``syntax error``, ``exception``, ``ended early`` (before the tests'
    end), ``prompt too long``, or the sandbox's word: ``timeout``, ``memory``, ..."""


def prompt(problem: Problem) -> str:
    """What the model is given."""
    return problem.prompt.rstrip("\n")


def solution(problem: Problem) -> str:
    """The canonical continuation of ``prompt(problem)``."""
    return problem.prompt[len(prompt(problem)) :] + problem.canonical_solution


def program(problem: Problem, completion: str) -> str:
    """What is run."""
    return f"{prompt(problem)}{completion}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"


def judge(pairs: Iterable[tuple[Problem, Completion]], sandbox: SandboxSettings) -> Iterator[Verdict]:
    """Run each completion against its tests; verdicts in the order of ``pairs``."""
    known = list(pairs)
    results = run_many((program(problem, completion.text) for problem, completion in known), len(os.sched_getaffinity(0)), sandbox, to_the_end=True)
    for (problem, completion), result in zip(known, results, strict=True):
        reason = "prompt too long" if completion.finish == "prompt too long" else _reason(result)
        yield Verdict(task_id=problem.task_id, completion=completion.text, finish=completion.finish, passed=reason == "passed", reason=reason)


def _reason(result: Result) -> str:
    if result.status != "failed":
        return result.status
    if result.exit_code == 0:
        return "ended early"
    lines = result.stderr.strip().splitlines()
    error = lines[-1].split(":")[0] if lines else ""
    if error in ("SyntaxError", "IndentationError", "TabError"):
        return "syntax error"
    return "wrong answer" if error == "AssertionError" else "exception"


def read_journal(path: Path) -> dict[str, Verdict]:
    """Whole rows of a journal by task; a last line cut by a kill is dropped from the file."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        write_atomically(path, whole)
    return {row["task_id"]: row for row in map(json.loads, whole.splitlines())}


def run(lm: LanguageModel, problems: Sequence[Problem], settings: EvaluateSettings, journal: Path) -> list[Verdict]:
    """Complete and judge what the journal lacks; all verdicts, in the order of ``problems``.

    Problems of like length are completed together, shortest first; a batch cut short by a kill is completed whole again,
    so that a resumed run gives what an undisturbed one gives.
    """
    done = read_journal(journal)
    order = sorted(problems, key=lambda problem: (len(problem.prompt), problem.task_id))
    with Progress("HumanEval", total=len(problems), unit="problems") as bar, journal.open("a") as file:
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            if any(problem.task_id not in done for problem in batch):
                completions = complete(lm, [prompt(problem) for problem in batch], settings.max_new_tokens, settings.stop)
                missing = [pair for pair in zip(batch, completions, strict=True) if pair[0].task_id not in done]
                for verdict in judge(missing, settings.sandbox):
                    done[verdict["task_id"]] = verdict
                    file.write(json.dumps(verdict) + "\n")
                    file.flush()
            bar.advance(len(batch), note=f"{sum(row['passed'] for row in done.values())} passed")
    verdicts = [done[problem.task_id] for problem in problems]
    write_atomically(journal, "".join(json.dumps(row) + "\n" for row in verdicts).encode())
    return verdicts
