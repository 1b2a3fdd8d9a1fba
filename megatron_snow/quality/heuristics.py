"""Rules that stand in for labelled data: which files look cared for, and which functions read like a solved task.

Pure functions of text and language. Comment shares are counted line by line, not by a parser: a few microseconds a file, and
wrong only where a line inside a string looks like a comment. Python files are parsed as well, which is what settles docstrings.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Set
from fnmatch import fnmatchcase

from megatron_snow.artifacts.documents import Document
from megatron_snow.quality.settings import FunctionPositives, HeuristicPositives

_SLASHES = ("//", "/*")
_HASH = ("#",)
_DASHES = ("--",)
COMMENT_MARKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("C", "C++", "C#", "Cuda", "Dart", "Go", "Java", "JavaScript", "Kotlin", "Objective-C", "Rust", "Scala", "Swift", "TypeScript"), _SLASHES),
    **dict.fromkeys(("Cython", "Julia", "Jupyter Notebook", "Perl", "Python", "R", "Ruby", "Shell"), _HASH),
    **dict.fromkeys(("Haskell", "Lua"), _DASHES),
    "PHP": (*_SLASHES, *_HASH),
    "SQL": (*_DASHES, "/*"),
}
"""Linguist's language -> what a comment line starts with; the heuristic passes no file of another language."""


_BRANCH = re.compile(r"(?:\}\s*)?(?:else\s+|els?)?(?:if|for|foreach|while|switch|match|loop|until|unless)\b")


def source_lines(text: str) -> list[str]:
    """Lines as a compiler counts them (``str.splitlines`` also breaks at form feeds and other separators)."""
    return re.split(r"\r\n|\r|\n", text)


def parse_python(text: str) -> ast.Module | None:
    """The syntax tree, or None where the text is not Python of this interpreter's version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def docstring_lines(tree: ast.Module) -> set[int]:
    """Line numbers, from 1, that docstrings cover."""
    covered: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            covered.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return covered


def comments_and_code(text: str, language: str, docstrings: Set[int] = frozenset()) -> tuple[int, list[str]]:
    """The number of comment lines after the file's head, and its code lines, stripped.

    The head is every comment before the first other line (licence notices). ``docstrings`` are lines that count as comments
    whatever they start with, and end the head. Blank lines are neither.
    """
    marks = COMMENT_MARKS[language]
    comments, code = 0, []
    in_head, in_block = True, False
    for number, line in enumerate(source_lines(text), start=1):
        stripped = line.strip()
        if not stripped:
            continue
        documented = number in docstrings
        in_head = in_head and not documented
        opens = "/*" in marks and stripped.startswith("/*")
        if in_block or documented or stripped.startswith(marks):
            comments += not in_head
        else:
            in_head = False
            code.append(stripped)
        if opens or in_block:
            in_block = "*/" not in stripped
    return comments, code


def _public_definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public_definitions(node.body)


def documented_share(tree: ast.Module) -> float:
    """Share of public functions, classes and methods with a docstring; 0.0 where there is none to document."""
    found = [ast.get_docstring(node) is not None for node in _public_definitions(tree.body)]
    return sum(found) / len(found) if found else 0.0


def looks_cared_for(document: Document, rule: HeuristicPositives) -> bool:
    """Whether a file passes every part of the heuristic; cheap parts first."""
    text, language = document["text"], document["language"]
    name = f"{document['repository']}/{document['path']}"
    if language not in COMMENT_MARKS or any(fnmatchcase(name, glob) for glob in rule.exclude):
        return False
    lines = source_lines(text)
    if not rule.lines[0] <= len(lines) <= rule.lines[1] or max(map(len, lines)) > rule.longest_line:
        return False
    docstrings: set[int] = set()
    if language == "Python":
        tree = parse_python(text)
        if tree is None or documented_share(tree) < rule.documented:
            return False
        docstrings = docstring_lines(tree)
    comments, code = comments_and_code(text, language, docstrings)
    if sum(_BRANCH.match(line) is not None for line in code) < rule.branches:
        return False
    return rule.comments[0] <= comments / (comments + len(code)) <= rule.comments[1]


def documented_functions(text: str, rule: FunctionPositives) -> list[str]:
    """The top-level functions of a Python file that fit the rule: source with docstring, without decorators, in file order."""
    tree = parse_python(text)
    if tree is None:
        return []
    lines = source_lines(text)
    found = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or len(ast.get_docstring(node) or "") < rule.docstring or len(node.body) < 2:
            continue
        length = (node.end_lineno or 0) - node.body[1].lineno + 1
        if rule.statements[0] <= length <= rule.statements[1]:
            found.append(textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno])) + "\n")
    return found
