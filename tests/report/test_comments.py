from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from megatron_snow.report.comments import comment_bytes

_PARTS = {  # comments between the markers
    "C": "«/* a\n b */» int x; «// c»\nchar *s = \"/* no */ // no\";\n",
    "C++": "«// a»\nauto s = R\"(// no)\";\n",
    "Java": "«/** doc */»\nclass A { String s = \"// no\"; «/* b */» }\n",
    "JavaScript": "«// a»\nconst s = `// no`; «/* b */»\n",
    "TypeScript": "«// a»\nlet s: string = '/* no */';\n",
    "Go": "«// a»\npackage main\nvar s = \"// no\"\n",
    "Rust": "«// a»\nlet s = \"// no\"; «/* b */»\n",
    "Shell": "«# a»\necho \"# no\" «# b»\n",
    "Ruby": "«# a»\ns = '# no'\n",
    "SQL": "«-- a»\nSELECT '-- no';\n",
    "PHP": "<?php «// a»\n$s = '// no'; «/* b */»\n",
}  # fmt: skip


@pytest.mark.parametrize("language", _PARTS)
def test_comments_are_told_from_strings(language: str) -> None:
    marked = _PARTS[language]
    inside = sum(len(part.split("»")[0].encode()) for part in marked.split("«")[1:])
    data = marked.replace("«", "").replace("»", "").encode()
    # Some grammars count a line comment's line break.
    assert comment_bytes(language, data) in range(inside, inside + 1 + marked.count("«//") + marked.count("«#") + marked.count("«--"))


@pytest.mark.parametrize("module", [ast, io, tokenize])
def test_pythons_comments_and_docstrings_are_those_its_own_parser_sees(module: object) -> None:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    comments = sum(len(token.string.encode()) for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT)
    documented = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node.body[0] for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node) is not None]
    docstrings = sum(len((ast.get_source_segment(source, node) or "").encode()) for node in nodes)
    assert comment_bytes("Python", source.encode()) == comments + docstrings


def test_a_language_without_a_grammar_is_not_measured() -> None:
    assert comment_bytes("Markdown", b"<!-- x -->") is None


def test_hostile_text_is_survived() -> None:
    assert comment_bytes("Python", b"\xff\x00(" * 2_000 + b"# x") is not None
    assert comment_bytes("C", b"(" * 5_000) == 0
