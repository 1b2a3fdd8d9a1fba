"""Which problems the sandbox's Python can run: BigCodeBench's import some seventy libraries."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.sandbox import SandboxSettings, run

_LOOK = """
import importlib.util
import json
print(json.dumps([name for name in json.loads({names!r}) if importlib.util.find_spec(name) is None]))
"""


def wanted(problem: Problem) -> set[str]:
    """Modules that the problem (BigCodeBench names them), its canonical solution and its tests import, without their submodules."""
    found = set(problem.libraries)
    for source in (problem.prompt + problem.canonical_solution, problem.test):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name.partition(".")[0] for name in found}


def missing(problems: Sequence[Problem], sandbox: SandboxSettings) -> dict[str, list[str]]:
    """Of the problems that are tested by their own test cases, those that want what the sandbox's Python lacks: its names by task.

    Raises SnowError where the machine cannot isolate, or the environment does not work.
    """
    wants = {problem.task_id: wanted(problem) for problem in problems if problem.style == "unittest"}
    names = sorted(set().union(*wants.values()))
    if not names:
        return {}
    result = run(_LOOK.format(names=json.dumps(names)), sandbox)
    if result.status != "passed":
        raise SnowError(f"the sandbox's Python does not work ({result.status}: {result.stderr.strip()[-300:]}); make evaluate.sandbox.environment anew")
    lacking = set(json.loads(result.stdout))
    return {task: sorted(some & lacking) for task, some in wants.items() if some & lacking}
