"""What an answer becomes: a document, or a reason."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.corpus.redaction import Redactor
from megatron_snow.corpus.settings import DecontaminationSettings, LicenseSettings, RedactionSettings
from megatron_snow.synthesis.answers import REASONS, Judge, Verdict, make_judge, text_of, with_problem
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.prompt import load_prompt, packaged, plain
from megatron_snow.synthesis.syntax import LANGUAGES, error_in, language_of_fence

CODE = {
    "Python": "def f(x):\n    return x + 1\n", "Java": "class A { int f(int x) { return x + 1; } }\n",
    "C++": "#include <vector>\nint f(std::vector<int> x) { return x[0]; }\n",
    "C": "int f(int x) { return x + 1; }\n", "JavaScript": "function f(x) { return x + 1; }\n", "PHP": "<?php\nfunction f($x) { return $x + 1; }\n",
    "C#": "class A { int F(int x) { return x + 1; } }\n", "Go": "package main\n\nfunc f(x int) int { return x + 1 }\n",
    "TypeScript": "function f(x: number): number { return x + 1; }\n",
    "SQL": "SELECT name, count(*) FROM people GROUP BY name;\n", "Ruby": "def f(x)\n  x + 1\nend\n", "Rust": "fn f(x: i32) -> i32 { x + 1 }\n",
    "Jupyter Notebook": "x = 1\nprint(x)\n", "Scala": "object A { def f(x: Int): Int = x + 1 }\n", "Kotlin": "fun f(x: Int): Int = x + 1\n",
    "Shell": "#!/bin/bash\nfor x in 1 2; do echo $x; done\n", "Dart": "int f(int x) { return x + 1; }\n", "Swift": "func f(x: Int) -> Int { return x + 1 }\n",
}  # fmt: skip
PROBLEM = "Add one to a number that is given."


@pytest.fixture(scope="module")
def judge() -> Judge:
    return make_judge(DecontaminationSettings(), RedactionSettings(), 10)


def answer(content: str, finish_reason: str = "stop") -> Answer:
    return Answer(id="x", content=content, finish_reason=finish_reason)


def good(code: str, fence: str = "python", problem: str = PROBLEM) -> str:
    return f"Problem: {problem}\n\n```{fence}\n{code}```\n"


def test_the_languages_are_the_papers_18():
    assert len(LANGUAGES) == 18 and set(CODE) == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_good_answer_in_every_language(judge, language):
    reply = answer(good(CODE[language], LANGUAGES[language].fence))
    verdict = judge.judge(reply, language)
    assert verdict.reason == "", verdict
    assert PROBLEM in verdict.text and CODE[language].split("\n")[-2] in verdict.text
    assert error_in(language, verdict.text) is None  # the statement is a comment
    assert text_of(reply, language, Redactor(RedactionSettings())) == verdict.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_broken_syntax_in_every_language(judge, language):
    broken = {
        "SQL": "SELECT FROM WHERE ((;\n",
        "PHP": "<?php\nfunction f($x { return }\n",
        "Ruby": "def f(x\n  x + )\nend end\n",
        "Shell": "for x in; do (((\n",
    }
    code = broken.get(language, CODE[language].replace("(", "((", 1) + "} ] )")
    verdict = judge.judge(answer(good(code, LANGUAGES[language].fence)), language)
    assert verdict.reason == "does not parse" and verdict.detail


@pytest.mark.parametrize(
    ("content", "finish_reason", "reason"),
    [
        (good(CODE["Python"]), "length", "not finished"), (good(CODE["Python"]), "content_filter", "not finished"), ("", "stop", "no code block"),
        ("too long for this server", "refused", "refused by the server"), ("Problem: write a program, please, that adds.", "stop", "no code block"),
        (f"```python\n{CODE['Python']}```", "stop", "no problem statement"), (good(CODE["Python"], problem="Add."), "stop", "no problem statement"),
        (good(CODE["C"], "c"), "stop", "in another language"), (good("x = 1\n", "haskell"), "stop", "in another language"),
        (good("x=1\n"), "stop", "too short"),
        (good("def f(x):\n    return x +\n"), "stop", "does not parse"), (good("def f(x):\n  return '\0' + x\n"), "stop", "does not parse"),
        (good("return 5 + 4 + 3\n"), "stop", "does not parse"),
    ],
)  # fmt: skip
def test_reasons(judge, content, finish_reason, reason):
    assert judge.judge(answer(content, finish_reason), "Python").reason == reason
    assert reason in REASONS


def test_humaneval_is_found_in_problem_and_in_code(judge):
    problem = load_humaneval()[2]
    assert judge.judge(answer(good(problem.prompt + problem.canonical_solution)), "Python").reason == "contaminated"
    verdict = judge.judge(answer(good(CODE["Python"], problem=problem.docstrings()[0])), "Python")
    assert verdict.reason == "contaminated" and verdict.detail == "HumanEval/2 docstring"


@pytest.mark.parametrize(
    "before",
    [
        PROBLEM,
        f"Problem: {PROBLEM}",
        f"**Problem:** {PROBLEM}",
        f"## Problem\n\n{PROBLEM}\n\n## Solution",
        f"Problem: {PROBLEM}\n\n**Solution:**",
        f"### Problem Statement\n{PROBLEM}",
    ],
)
def test_headings_are_no_part_of_the_problem(judge, before):
    assert judge.judge(answer(f"{before}\n\n```python\n{CODE['Python']}```"), "Python").text == f'"""{PROBLEM}\n"""\n\n{CODE["Python"]}'


@pytest.mark.parametrize("fence", ["python", "Python", "py", "python3", "", "python title=a.py"])
def test_fence_words(judge, fence):
    assert judge.judge(answer(good(CODE["Python"], fence)), "Python").reason == ""
    assert language_of_fence("c++") == "C++" and language_of_fence("brainfuck") is None


def test_a_stop_text_may_have_taken_the_closing_fence_and_what_follows_the_block_is_left_out(judge):
    for tail in ("", "```", "```\nThis adds one.\n```python\nprint(1)\n```"):
        assert judge.judge(answer(f"Problem: {PROBLEM}\n```python\n{CODE['Python']}{tail}"), "Python").text == f'"""{PROBLEM}\n"""\n\n{CODE["Python"]}'


@pytest.mark.parametrize("indent", [0, 1, 3])
def test_up_to_three_spaces_may_stand_before_a_fence(judge, indent):
    block = "".join(" " * indent + line for line in f"```python\n{CODE['Python']}```\nThis adds one.\n".splitlines(keepends=True))
    assert judge.judge(answer(f"Problem: {PROBLEM}\n\n{block}"), "Python").text == f'"""{PROBLEM}\n"""\n\n{CODE["Python"]}'


def test_four_spaces_before_a_fence_are_text(judge):
    assert judge.judge(answer(f"Problem: {PROBLEM}\n\n    ```python\n{CODE['Python']}    ```\n"), "Python").reason == "no code block"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(str.strip).filter(bool))
def test_any_statement_leaves_python_python(problem):
    for code in ("x = 1", "from __future__ import annotations\nx = 1", '"""Own."""\nfrom __future__ import annotations\nx = 1', "#!/usr/bin/python\nx = 1"):
        text = with_problem("Python", problem, code)
        assert error_in("Python", text) is None, text
        assert ast.unparse(ast.parse(text).body[-1]) == "x = 1"


def test_first_lines_that_must_stay_first():
    assert with_problem("Shell", "Echo.", "#!/bin/sh\necho").startswith("#!/bin/sh\n# Echo.\n")
    assert with_problem("PHP", "Echo.", "<?php\necho 1;").startswith("<?php\n// Echo.\n")


def test_duplicates_ignore_white_space():
    assert (
        Verdict("", "def f():\n  return 1").fingerprint
        == Verdict("", "def f():\n\n\treturn  1\n").fingerprint
        != Verdict("", "def g():\n  return 1").fingerprint
    )


DOCSTRING = '''"""Adds.

```python
f(1)
```

~~~
"""


def f(x):
    return x + 1
'''


@pytest.mark.parametrize("tail", ["```\n", "```\nThat was it.\n", ""])
def test_a_fence_inside_a_docstring_does_not_end_the_file(judge, tail):
    verdict = judge.judge(answer(f"Problem: {PROBLEM}\n\n```python\n{DOCSTRING}{tail}"), "Python")
    assert verdict.reason == "" and DOCSTRING in verdict.text


def test_a_fence_inside_a_comment_of_another_language(judge):
    code = "/*\n```\nf(1);\n```\n*/\nint f(int x) { return x + 1; }\n"
    verdict = judge.judge(answer(good(code, "c")), "C")
    assert verdict.reason == "" and code in verdict.text


def test_where_no_end_parses_the_first_counts(judge):
    verdict = judge.judge(answer(f"Problem: {PROBLEM}\n```python\ndef f(:\n    broken\n```\nText.\n```\n"), "Python")
    assert (verdict.reason, verdict.detail.startswith("line ")) == ("does not parse", True)


def test_longer_fences_close_with_as_many_ticks(judge):
    code = "x = 1\n# a comment of some length\n"
    assert judge.judge(answer(f"Problem: {PROBLEM}\n````python\n{code}```\n````\n"), "Python").reason == "does not parse"
    assert judge.judge(answer(f"Problem: {PROBLEM}\n````python\n{code}````\n"), "Python").text.endswith(code)


def test_an_example_in_a_block_of_its_own_belongs_to_the_problem(judge):
    verdict = judge.judge(answer(f"Problem: {PROBLEM} For example:\n```\n1 2\n```\ngives\n```text\n2 3\n```\n\n```python\n{CODE['Python']}```\n"), "Python")
    assert verdict.reason == "" and "2 3" in verdict.text and verdict.text.endswith(CODE["Python"])


KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


def test_personal_data_and_credentials_leave_the_document_or_take_it_along():
    code = f"# write to jane.miller@corporation-mail.com\nTOKEN = '{KEY}'\n"
    reply = answer(good(code))
    verdict = make_judge(DecontaminationSettings(), RedactionSettings(), 10).judge(reply, "Python")
    assert verdict.reason == "" and KEY not in verdict.text and "jane" not in verdict.text and "<EMAIL>" in verdict.text
    assert text_of(reply, "Python", Redactor(RedactionSettings())) == verdict.text
    dropping = make_judge(DecontaminationSettings(), RedactionSettings(email_addresses="drop"), 10)
    assert dropping.judge(reply, "Python").reason == "holds an e-mail address"


GPL = """# This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as
# published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
"""


@pytest.mark.parametrize(
    ("top", "reason"),
    [(GPL, "licence not allowed"), ("# SPDX-License-Identifier: AGPL-3.0-only\n", "licence not allowed"),
     ("# SPDX-License-Identifier: House-Rules\n", "licence unknown"),
     ("# SPDX-License-Identifier: MIT\n", ""), ("", "")],
)  # fmt: skip
def test_a_file_that_states_a_licence_goes_by_the_corpus_rules(top: str, reason: str) -> None:
    reply = answer(good(top + CODE["Python"]))
    assert make_judge(DecontaminationSettings(), RedactionSettings(), 10).judge(reply, "Python").reason == reason
    assert make_judge(DecontaminationSettings(), RedactionSettings(), 10, licenses=LicenseSettings(file_level=False)).judge(reply, "Python").reason == ""
    everything = LicenseSettings(allowed=("Permissive", "Copyleft"), unknown="keep")
    assert make_judge(DecontaminationSettings(), RedactionSettings(), 10, licenses=everything).judge(reply, "Python").reason == ""


ECHOES = {
    "the question": "Problem: Grow a block of memory.\n\n```c\nint size = 4;\n\nInvent a short programming problem about this  code and solve it in C.\n```\n",
    "an example's problem": "Problem: Count the nodes of a linked list, where the last node points to nothing.\n\n```c\nint size(void) { return 4; }\n```\n",
}


@pytest.mark.parametrize("echo", ECHOES)
def test_an_answer_that_repeats_the_prompt_is_none(echo: str) -> None:
    """As a 135M model writes them; the examples' code may come back, for others write the like."""
    own_words = load_prompt("file_small").own_words()
    judge = make_judge(DecontaminationSettings(), RedactionSettings(), 4, own_words)
    found = judge.judge(Answer(id="x", content=ECHOES[echo], finish_reason="stop"), "C")
    assert found.reason == "repeats the prompt" and found.detail in own_words
    like = "Problem: Count the nodes of a list that is linked both ways.\n\n```c\nfor_each(first);\nint count = 0;\nreturn_count(count);\n```\n"
    assert judge.judge(Answer(id="x", content=like, finish_reason="stop"), "C").reason != "repeats the prompt"


@pytest.mark.parametrize("name", packaged())
def test_no_prompt_forbids_its_own_examples_code(name: str) -> None:
    prompt = load_prompt(name)
    code = "\n".join(text.partition("```")[2] for role, text in prompt.turns if role == "assistant")
    assert prompt.own_words() and not any(words in plain(code) for words in prompt.own_words())
