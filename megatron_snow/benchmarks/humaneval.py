"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 Python problems, read from a local file or from the pinned fixture."""

from __future__ import annotations

import ast
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import resolve

HUMANEVAL = "fixture:HumanEval"
_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_FILE = "HumanEval.jsonl.gz"


@dataclass(frozen=True)
class Problem:
    """One problem: a model continues ``prompt``; ``test`` defines ``check(candidate)`` and is run on ``entry_point``."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def docstrings(self) -> tuple[str, ...]:
        """The docstring of the entry point as written between its quotes and as evaluated (they differ where it holds escapes)."""
        try:
            tree = ast.parse(self.prompt + self.canonical_solution)
        except SyntaxError as error:
            raise SnowError(f"{self.task_id}: prompt and canonical solution are not a Python program ({error}); the benchmark file is damaged") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == self.entry_point:
                return self._first_text(node)
        return ()

    def _first_text(self, function: ast.FunctionDef) -> tuple[str, ...]:
        """The first string that is a statement: HumanEval/115 has an import before it, so that Python itself sees no docstring there."""
        for statement in function.body:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                written = (ast.get_source_segment(self.prompt + self.canonical_solution, value) or "").lstrip("rRuU").strip("\"'")
                return tuple(dict.fromkeys((written, value.value)))
        return ()


def load_humaneval(source: str = HUMANEVAL) -> list[Problem]:
    """The problems, in file order, from ``source``: ``fixture:HumanEval``, a ``.jsonl`` or ``.jsonl.gz`` file, or a folder with HumanEval.jsonl.gz.

    Raises SnowError where there is no such file or a row lacks a field.
    """
    path = Path(resolve(source))
    path = path / _FILE if path.is_dir() else path
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            lines = file.read().split("\n")  # not splitlines: a JSON string may hold U+2028
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SnowError(f"cannot read HumanEval from {path} ({error}); name a HumanEval.jsonl(.gz) file, or {HUMANEVAL}") from error
    problems = [_problem(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not problems:
        raise SnowError(f"{path} holds no problem; name a HumanEval.jsonl(.gz) file, or {HUMANEVAL}")
    return problems


def _problem(line: str, where: str) -> Problem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise SnowError(f"{where}: not JSON ({error}); fetch the file again") from error
    missing = [name for name in _FIELDS if not isinstance(row, dict) or not isinstance(row.get(name), str)]
    if missing:
        raise SnowError(f"{where}: no text in {', '.join(missing)}; a HumanEval row has {', '.join(_FIELDS)}")
    return Problem(**{name: row[name] for name in _FIELDS})
