"""MBPP rows (Austin et al. 2021, arXiv 2108.07732), the full set's columns and the sanitized set's."""

from __future__ import annotations

import ast

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.rows import Row, text


def mbpp(row: Row, name: str, where: str) -> Problem:
    """The prompt is the task and its first test in a docstring, as InCoder and evalplus have it (zero shots); the tests are assertions."""
    task, code = row.get("task_id"), text(row, "code", where).replace("\r\n", "\n")
    words = text(row, "text" if "text" in row else "prompt", where)
    tests = row.get("test_list")
    if not isinstance(task, int | str) or not isinstance(tests, list) or not tests or not all(isinstance(one, str) for one in tests):
        raise SnowError(f"{where}: no task_id, or no list of assertions in test_list (the row has {', '.join(sorted(row))}); is this an MBPP file?")
    before = row.get("test_imports") or row.get("test_setup_code") or []
    before = [before] if isinstance(before, str) else before
    prompt = f'"""\n{words}\n{tests[0]}\n"""\n'
    return Problem(
        f"Mbpp/{task}" if isinstance(task, int) else task, prompt, _entry_point(code, tests[0], where), code.rstrip() + "\n",
        "\n".join([*before, *tests]) + "\n", name, "asserts",
    )  # fmt: skip


def _entry_point(code: str, test: str, where: str) -> str:
    """The function of ``code`` that the test calls; the last one defined where the test calls none of them."""
    try:
        defined = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        called = [node.func.id for node in ast.walk(ast.parse(test.strip())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    except SyntaxError as error:
        raise SnowError(f"{where}: its code or its first test is not Python ({error}); fetch the file again") from error
    if not defined:
        raise SnowError(f"{where}: its code defines no function; fetch the file again")
    return next((one for one in called if one in defined), defined[-1])
