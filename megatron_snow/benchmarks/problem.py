"""One problem of any benchmark, as decontamination seeks it and evaluation runs it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

from megatron_snow.artifacts.errors import SnowError

Style = Literal["check", "asserts", "unittest", "inputs"]


@dataclass(frozen=True)
class Problem:
    """A model continues ``prompt`` (or follows ``instruction``); ``prompt + canonical_solution`` is a whole Python program."""

    task_id: str
    """As published (``HumanEval/0``, ``Mbpp/2``, ``EvoEval/0``): unique within its benchmark only."""
    prompt: str
    entry_point: str
    """The function asked for."""
    canonical_solution: str
    """What follows ``prompt``; begins with a newline where the published prompt lacks its last one."""
    test: str = ""
    """Python that tests the program: see ``style``."""
    benchmark: str = "humaneval"
    """Its name in ``sources.BENCHMARKS``."""
    style: Style = "check"
    """``check``: ``test`` defines ``check(candidate)``; ``asserts``: ``test`` is assertions about ``entry_point``; ``unittest``: ``test`` defines a
    ``unittest.TestCase`` called ``TestCases``; ``inputs``: the canonical solution's results on ``base_inputs`` and ``plus_inputs`` are what is right."""
    base_inputs: tuple[str, ...] = ()
    """Arguments of a call each, as Python: ``[1.0, 2.0], 0.5``. The names ``inf`` and ``nan`` may occur."""
    plus_inputs: tuple[str, ...] = ()
    """More of them: the + of HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210)."""
    tolerance: float = 0.0
    """Absolute difference allowed between numbers of an ``inputs`` test; 0: equality, but for floats."""
    instruction: str = ""
    """The problem as a request in words, where the benchmark has such a form (BigCodeBench-Instruct)."""
    header: str = ""
    """Imports and signature that such an answer may take for granted."""
    libraries: tuple[str, ...] = ()
    """Modules the program imports, where the benchmark says so (BigCodeBench)."""

    def docstrings(self) -> tuple[str, ...]:
        """The docstring of the entry point, or else of the program (MBPP's way), as written between its quotes and as evaluated (escapes differ).

        Raises SnowError where prompt and canonical solution are not Python.
        """
        source = self.prompt + self.canonical_solution
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            raise SnowError(f"{self.task_id}: prompt and canonical solution are not a Python program ({error}); the benchmark file is damaged") from error
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == self.entry_point]
        for body in (*bodies, tree.body):
            if found := _first_text(body, source):
                return found
        return ()


def _first_text(body: list[ast.stmt], source: str) -> tuple[str, ...]:
    """The first string that is a statement: HumanEval/115 has an import before it, so that Python itself sees no docstring there."""
    for statement in body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            written = (ast.get_source_segment(source, value) or "").lstrip("rRuU").strip("\"'")
            return tuple(dict.fromkeys((written, value.value)))
    return ()
