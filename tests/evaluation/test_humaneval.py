from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from megatron_snow.benchmarks.humaneval import Problem, load_humaneval
from megatron_snow.evaluation.generation import Completion
from megatron_snow.evaluation.humaneval import judge, program, prompt, read_journal, run, solution
from megatron_snow.evaluation.language_model import LanguageModel, load
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.sandbox import SandboxSettings

SETTINGS = EvaluateSettings(dtype="fp32", max_new_tokens=8, batch_size=4)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load_humaneval()


@pytest.fixture(scope="module")
def lm(model: Path) -> LanguageModel:
    """The small model with room for every prompt in its positions (rotary embeddings have no table to outgrow)."""
    loaded = load(model, "fp32")
    return LanguageModel(loaded.model, loaded.tokenizer, 2048, loaded.prefix, loaded.ends)


def test_every_canonical_solution_passes(problems: list[Problem]) -> None:
    verdicts = list(judge([(problem, Completion(solution(problem), "stop")) for problem in problems], SandboxSettings(timeout=30)))
    assert [row["task_id"] for row in verdicts] == [problem.task_id for problem in problems] and len(verdicts) == 164
    assert [row["task_id"] for row in verdicts if not row["passed"]] == []


def test_prompts_lose_their_trailing_newlines_and_nothing_else(problems: list[Problem]) -> None:
    for problem in problems:
        assert not prompt(problem).endswith("\n") and prompt(problem) + solution(problem) == problem.prompt + problem.canonical_solution
    assert any(problem.prompt.endswith("    \n") for problem in problems) == any(prompt(problem).endswith("    ") for problem in problems)


def test_what_is_wrong_is_not_passed_and_is_called_by_its_name(problems: list[Problem]) -> None:
    broken = {
        "\n    return object()\n": "wrong answer",
        "\n    return undefined\n": "exception",
        "\n  ) = def\n": "syntax error",
        "\n    raise SystemExit\n": "ended early",
        "\n    import os\n    os._exit(0)\n": "ended early",
        "\n    while True: pass\n": "timeout",
        "\n    return bytearray(2**40)\n": "memory",
    }
    pairs = [(problems[0], Completion(text, "length")) for text in broken]
    assert [row["reason"] for row in judge(pairs, SandboxSettings(timeout=5))] == list(broken.values())
    (empty,) = judge([(problems[0], Completion("", "prompt too long"))], SandboxSettings())
    assert empty["reason"] == "prompt too long" and not empty["passed"]


def test_a_program_is_prompt_completion_tests_and_call() -> None:
    problem = Problem("T/1", 'def one():\n    """1"""\n', "one", "    return 1\n", "def check(f):\n    assert f() == 1\n")
    text = program(problem, "\n    return 1")
    names: dict[str, object] = {}
    exec(compile(text, "program", "exec"), names)  # noqa: S102 - our own text
    assert callable(names["one"]) and text.startswith('def one():\n    """1"""\n    return 1\n') and text.endswith("\ncheck(one)\n")


def test_a_killed_run_goes_on_and_ends_the_same(lm: LanguageModel, problems: list[Problem], tmp_path: Path) -> None:
    some = problems[:10]
    whole = run(lm, some, SETTINGS, tmp_path / "whole.jsonl")
    assert [row["task_id"] for row in whole] == [problem.task_id for problem in some]
    assert Counter(row["finish"] for row in whole).keys() <= {"length", "stop", "end"}
    rows = sorted(whole, key=lambda row: len(next(p.prompt for p in some if p.task_id == row["task_id"])))
    half = tmp_path / "half.jsonl"
    kept = [{**row, "reason": "from the first run"} for row in rows[:5]]
    half.write_text("".join(json.dumps(row) + "\n" for row in kept) + json.dumps(rows[5])[:40])
    resumed = run(lm, some, SETTINGS, half)
    assert [row["completion"] for row in resumed] == [row["completion"] for row in whole]
    assert sum(row["reason"] == "from the first run" for row in resumed) == 5, "what was judged is not judged again"
    assert list(read_journal(half).values()) == resumed


def test_a_finished_journal_needs_no_model(problems: list[Problem], lm: LanguageModel, tmp_path: Path) -> None:
    journal = tmp_path / "done.jsonl"
    first = run(lm, problems[:2], SETTINGS, journal)
    nothing = LanguageModel(None, None, 1, (0,), frozenset())
    assert run(nothing, problems[:2], SETTINGS, journal) == first
