"""The edits on real files: what they must leave alone is compared by Python's own parser."""

import ast
import json.decoder
import textwrap
import tokenize

import pytest

from megatron_snow.quality.audit.edits import EDITS, GRAMMARS, minify, no_blank_lines, reindent, rename, strip_comments, strip_docstrings, strip_head


@pytest.fixture(scope="module", params=[json.decoder, textwrap, tokenize], ids=lambda module: module.__name__)
def source(request):
    with open(request.param.__file__, encoding="utf-8") as file:
        return file.read()


def code(text, docstrings=True):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not docstrings and isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "".join(node.value.split())  # strings of several lines are laid out anew as well
        if not docstrings and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if not docstrings and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and s.value.value is ...)]
    return ast.dump(tree)


def test_without_comments_the_program_is_the_same(source):
    edited = strip_comments("Python", source)
    assert code(edited) == code(source) and len(edited) < len(source)
    assert not [t for t in tokenize.generate_tokens(iter(edited.splitlines(keepends=True)).__next__) if t.type == tokenize.COMMENT]


def test_without_docstrings_the_rest_is_the_same(source):
    assert code(strip_docstrings("Python", source), docstrings=False) == code(source, docstrings=False)
    assert not [n for n in ast.walk(ast.parse(strip_docstrings("Python", source))) if isinstance(n, ast.FunctionDef) and ast.get_docstring(n)]


def test_another_layout_is_the_same_program(source):
    assert code(reindent("Python", source), docstrings=False) == code(source, docstrings=False)
    assert code(no_blank_lines("Python", source), docstrings=False) == code(source, docstrings=False)


def test_names_are_renamed_one_to_one(source):
    """The trees have the same shape, and each name stands for one name wherever it stands."""
    forth, back = {}, {}
    old, new = (list(ast.walk(ast.parse(text))) for text in (source, rename("Python", source)))
    assert [type(node) for node in old] == [type(node) for node in new]
    for before, after in zip(old, new, strict=True):
        if isinstance(before, ast.Name | ast.arg):
            a, b = (node.id if isinstance(node, ast.Name) else node.arg for node in (before, after))
            assert forth.setdefault(a, b) == b and back.setdefault(b, a) == a
        elif isinstance(before, ast.Attribute | ast.alias):
            assert (before.attr, after.attr) == (before.attr, before.attr) if isinstance(before, ast.Attribute) else before.name == after.name
    assert sum(a != b for a, b in forth.items()) > 0.5 * len(forth)


def test_a_minified_file_is_short_and_still_parses(source):
    edited = minify("Python", source)
    ast.parse(edited)
    assert len(edited) < 0.8 * len(source) and "\n\n" not in edited


C = """/* Licence */
// more
#include "a.h" // here

char *url = "http://x"; /* not
 a comment? it is */
int sum(int *xs, int n) {
\treturn xs[0]; // "q"
}
"""


def test_marks_in_strings_are_no_comments():
    assert strip_comments("C", C) == '#include "a.h"\n\nchar *url = "http://x";\nint sum(int *xs, int n) {\n\treturn xs[0];\n}\n'
    assert strip_head("C", C).startswith('#include "a.h" // here')
    assert strip_comments("Shell", '#!/bin/sh\n# x\necho "#no" # yes\n') == '#!/bin/sh\necho "#no"\n'


def test_includes_and_one_letter_names_stay():
    edited = rename("C", C)
    assert '#include "a.h"' in edited and "int n" in edited and "sum" not in edited and "xs" not in edited


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_what_cannot_be_parsed_is_left_out_or_only_laid_out(edit):
    assert edit("Python", "def f(:\n") in (None, "def f(:\n")
    assert edit("Brainfuck", "+++") in (None, "+++", "+++\n")


def test_every_grammar_is_there():
    from tree_sitter_language_pack import get_parser

    for grammar in GRAMMARS.values():
        assert get_parser(grammar).parse(b"").root_node is not None
