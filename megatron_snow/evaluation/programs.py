"""Prompts, stop strings, and the program that tests a completion: as the public harness of each benchmark has them.

Trailing newlines are stripped from HumanEval's and EvoEval's prompts (paper, note to table 2: of most models), MBPP's and BigCodeBench's are given as they are.
A model that follows instructions is asked in evalplus' and BigCodeBench's words, without the beginning of an answer (what a server takes).
Stop strings: Codex's (arXiv 2107.03374) for HumanEval, evalplus 0.3.1's for HumanEval+, MBPP(+) and BigCodeBench-Complete, EvoEval 0.1.0's for EvoEval.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from megatron_snow.benchmarks.problem import Problem

_HUMANEVAL = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_COMMON = ("\nif __name__", "\ndef main(", "\nprint(")
_EVALPLUS = (*_COMMON, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
_MBPP = (*_COMMON, '\n"""', "\nassert")
_EVOEVAL = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```")
_CHECKER = Path(__file__).parent / "checker.py"
_CASES = """
import os
import sys
import types
import unittest
module = types.ModuleType("__test__")
module.__dict__.update({{"__file__": "__test__.py", "sys": sys, "os": os, "environ": os.environ}})
exec(compile({source!r}, "__test__.py", "exec"), module.__dict__)
sys.modules["__test__"] = module
result = unittest.TestResult()
unittest.TestLoader().loadTestsFromTestCase(module.TestCases).run(result)
for case, trace in result.failures + result.errors:
    raise AssertionError(f"{{case.id()}}: {{trace.strip().splitlines()[-1]}}")
"""
"""As BigCodeBench's harness runs its tests: in a module ``__test__`` that has ``sys``, ``os`` and ``environ`` (some problems need them, none is a script)."""


INSTRUCT = "bigcodebench/instruct"
_ASK = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
"""evalplus 0.3.1 and bigcodebench 0.2: scores depend on the wording, so it is theirs."""
_FENCE = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)


def prompt(problem: Problem) -> str:
    """What the model is given to go on with."""
    strip = problem.benchmark.startswith(("humaneval", "evoeval"))
    return problem.prompt.rstrip("\n") if strip else problem.prompt


def question(problem: Problem) -> str:
    """What a model that follows instructions is asked."""
    return f"{_ASK}\n{problem.instruction.strip()}\n" if problem.benchmark == INSTRUCT else f"{_ASK}\n```\n{problem.prompt.strip()}\n```\n"


def answered(problem: Problem, text: str) -> str:
    """The program in an answer: its first code block that defines the function asked for, else its first one, else all of it.

    BigCodeBench's imports and signature are put before it, as in the harness' calibrated score, which is the one it publishes.
    """
    blocks = _FENCE.findall(text) or [text]
    code = next((block for block in blocks if re.search(rf"^\s*def\s+{re.escape(problem.entry_point)}\b", block, re.MULTILINE)), blocks[0])
    return f"{problem.header}\n    pass\n{code}" if problem.header else code


def solution(problem: Problem) -> str:
    """The canonical continuation of ``prompt(problem)``."""
    return problem.prompt[len(prompt(problem)) :] + problem.canonical_solution


def stops(problem: Problem) -> tuple[str, ...]:
    """What ends a completion: code behind the function asked for."""
    name = problem.benchmark.partition("/")[0]
    return {"humaneval": _HUMANEVAL, "mbpp": _MBPP, "mbpp+": _MBPP, "evoeval": _EVOEVAL}.get(name, _EVALPLUS)


def whole(problem: Problem, completion: str) -> str:
    """Prompt and completion, without last lines that keep it from being Python (a completion cut by its length), as long as some of the completion stays."""
    lines = (prompt(problem) + completion).split("\n")
    given = len(prompt(problem))
    for end in range(len(lines), 0, -1):
        text = "\n".join(lines[:end])
        if not text[given:].strip():
            break
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign) for node in tree.body):
            return text
    return "\n".join(lines)


def program(problem: Problem, source: str, call_seconds: float, seconds: float, base_only: bool = False) -> str:
    """What is run to test ``source``, a whole program text. ``call_seconds``: processor time of one call of an ``inputs`` test, at the least."""
    if problem.style == "check":
        return f"{source}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"
    if problem.style == "asserts":
        return f"{source}\n\n{problem.test}\n"
    if problem.style == "unittest":
        return _CASES.format(source=f"{source}\n\n{problem.test}\n")
    inputs = problem.base_inputs if base_only else problem.base_inputs + problem.plus_inputs
    task = {
        "benchmark": problem.benchmark, "task_id": problem.task_id, "entry_point": problem.entry_point, "tolerance": problem.tolerance,
        "inputs": inputs, "base": len(problem.base_inputs), "limit": call_seconds, "timeout": seconds,
    }  # fmt: skip
    canonical = problem.prompt + problem.canonical_solution
    return f"{_CHECKER.read_text()}\n\nimport json\ncompare(json.loads({json.dumps(task)!r}), {canonical!r}, {source!r})\n"
