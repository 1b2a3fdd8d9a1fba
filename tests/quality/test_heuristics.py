import ast
import sysconfig
import textwrap
from pathlib import Path

import pytest

from megatron_snow.quality.heuristics import comments_and_code, docstring_lines, documented_functions, documented_share, looks_cared_for, parse_python
from megatron_snow.quality.settings import FunctionPositives, HeuristicPositives

RULE = HeuristicPositives(kind="heuristic", count=1)
LIBRARY = Path(sysconfig.get_path("stdlib"))


def document(text, language="Python", path="pkg/module.py"):
    return {"id": path, "text": text, "language": language, "repository": "r", "path": path, "license": "", "source": "s"}


FUNCTION = '''def total_{}(values):
    """Add up the positive values."""
    result = 0
    # negatives are debts
    for value in values:
        if value > 0:
            result += value
    return result
'''
GOOD = '"""Sums."""\n\n\n' + "\n\n".join(FUNCTION.format(i) for i in range(6))


@pytest.mark.parametrize(
    ("language", "text", "comments", "code"),
    [
        ("Python", "# licence\n# notice\nx = 1\n# why\ny = 2\n", 1, ["x = 1", "y = 2"]),
        ("C", "/* licence\n   notice */\n#include <a.h>\n/* one\n * two\n */\nint a; // no comment line\n", 3, ["#include <a.h>", "int a; // no comment line"]),
        ("C++", "// licence\n\n// still the head\nint a;\n// why\nint b;\n", 1, ["int a;", "int b;"]),
        ("Java", "class A {\n/** one line */\nint a;\n}\n", 1, ["class A {", "int a;", "}"]),
        ("SQL", "-- head\nSELECT 1;\n-- why\nSELECT 2;\n", 1, ["SELECT 1;", "SELECT 2;"]),
        ("Python", "", 0, []),
    ],
)
def test_comments_are_counted_by_language_without_the_licence_notice(language, text, comments, code):
    assert comments_and_code(text, language) == (comments, code)


def test_docstring_lines_agree_with_the_source_of_the_standard_library():
    source = (LIBRARY / "textwrap.py").read_text()
    lines = source.splitlines()
    covered = docstring_lines(ast.parse(source))
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "dedent")
    assert set(range(function.body[0].lineno, function.body[0].end_lineno + 1)) <= covered
    assert all('"""' in lines[number - 1] for number in covered if number - 1 not in covered)  # each run of lines begins with quotes


def test_documented_share_counts_public_definitions_only():
    tree = parse_python('def a():\n    """x"""\ndef b(): ...\ndef _c(): ...\nclass D:\n    """d"""\n    def e(self): ...\n    def __init__(self): ...\n')
    assert documented_share(tree) == 2 / 4
    assert documented_share(parse_python("x = 1")) == 0.0


def test_text_that_is_not_python_is_no_tree():
    assert parse_python("def (:") is None
    assert parse_python("x = '\0'") is None
    assert parse_python("(" * 5000) is None


def test_a_documented_worked_out_file_passes_and_each_flaw_alone_fails_it():
    assert looks_cared_for(document(GOOD), RULE)
    assert not looks_cared_for(document("\n".join(GOOD.splitlines()[:20])), RULE)  # 20 lines
    assert not looks_cared_for(document(GOOD + "y = 1\n" * 500), RULE)
    assert not looks_cared_for(document(GOOD + "x = '" + "a" * 130 + "'\n"), RULE)
    assert not looks_cared_for(document(GOOD + "def (:\n"), RULE)  # does not parse
    assert not looks_cared_for(document(GOOD.replace('    """Add up the positive values."""\n', "    # add\n")), RULE)  # no docstrings
    assert not looks_cared_for(
        document(GOOD.replace("    for value in values:\n        if value > 0:\n            result", "    result = 1\n    value = 2\n    result")), RULE
    )
    assert not looks_cared_for(document(GOOD + "y = 1\n" * 200), RULE)  # too little comment
    assert not looks_cared_for(document(GOOD + "# dead code\n" * 60), RULE)  # too much
    assert not looks_cared_for(document(GOOD, path="pkg/tests/test_sums.py"), RULE)
    assert not looks_cared_for(document(GOOD, language="JSON"), RULE)


def test_documented_functions_are_whole_and_fit_the_rule():
    rule = FunctionPositives(kind="functions", count=1)
    source = (LIBRARY / "bisect.py").read_text()
    found = documented_functions(source, rule)
    assert {ast.parse(text).body[0].name for text in found} >= {"insort_right", "bisect_right", "bisect_left"}
    for text in found:
        (function,) = ast.parse(text).body
        assert len(ast.get_docstring(function)) >= rule.docstring
        assert text.strip() in source


def test_a_functions_decorators_and_neighbours_stay_out():
    body = "\n".join(f"    x += {i}" for i in range(5))
    doc = '    """' + "What is to be done here. " * 6 + '"""'
    text = f"import os\n@cached\ndef a(x):\n{doc}\n{body}\n\ndef b(x):\n    return 1\n"
    assert documented_functions(text, FunctionPositives(kind="functions", count=1)) == [f"def a(x):\n{doc}\n{body}\n"]
    assert documented_functions(textwrap.dedent("def (:"), FunctionPositives(kind="functions", count=1)) == []
