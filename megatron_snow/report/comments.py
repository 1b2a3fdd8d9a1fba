"""How much of a file is comment, by tree-sitter's grammars: a hash sign in a string is none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

# Linguist's name -> tree-sitter's, for languages whose comments have a meaning; markup and data have none, or all text is.
_GRAMMARS = {
    "Python": "python", "Java": "java", "C++": "cpp", "C": "c", "JavaScript": "javascript", "PHP": "php", "C#": "csharp", "Go": "go",
    "TypeScript": "typescript", "SQL": "sql", "Ruby": "ruby", "Rust": "rust", "Jupyter Notebook": "python", "Scala": "scala", "Kotlin": "kotlin",
    "Shell": "bash", "Dart": "dart", "Swift": "swift", "Perl": "perl", "Lua": "lua", "Haskell": "haskell", "R": "r", "Julia": "julia",
    "Objective-C": "objc", "Cython": "python", "Makefile": "make", "CMake": "cmake", "Dockerfile": "dockerfile", "YAML": "yaml", "TOML": "toml",
    "CSS": "css",
}  # fmt: skip


def comment_bytes(language: str, data: bytes) -> int | None:
    """Bytes of ``data`` (UTF-8) in comments, and in Python's docstrings; None for a language that has no grammar here."""
    grammar = _GRAMMARS.get(language)
    if grammar is None:
        return None
    total = 0
    waiting = [_parser(grammar).parse(data).root_node]
    while waiting:
        node = waiting.pop()
        kind = node.type
        if "comment" in kind or (kind == "string" and grammar == "python" and _is_docstring(node)):
            total += node.end_byte - node.start_byte
        else:
            waiting.extend(node.children)
    return total


def _is_docstring(node: Node) -> bool:
    """A string that stands alone where a module's, class's or function's documentation does."""
    parent = node.parent
    if parent is None or not (parent.type == "module" or (parent.type == "block" and _documents(parent))):
        return False
    before = node.prev_named_sibling
    while before is not None and before.type == "comment":
        before = before.prev_named_sibling
    return before is None


def _documents(block: Node) -> bool:
    return block.parent is not None and block.parent.type in ("function_definition", "class_definition")


@cache
def _parser(grammar: str) -> Parser:
    from tree_sitter_language_pack import get_parser  # here: it takes time to load

    return get_parser(grammar)  # type: ignore[arg-type]
