"""Does a file parse? Python by its own compiler, the other languages of the paper by tree-sitter: one error node rejects.

Tree-sitter's grammars cover dialects unevenly (SQL most of all), so that some correct files are rejected; a synthetic file costs
little and a wrong one teaches. Nothing is executed: ``compile`` only reads.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

PYTHON = "Python"


@dataclass(frozen=True)
class Language:
    """How a language is named and written."""

    fence: str
    """The word after a code fence, also tree-sitter's name unless ``grammar`` says otherwise."""
    comment: str
    """What starts a line comment."""
    also: tuple[str, ...] = ()
    """Other words that models put after the fence."""
    grammar: str = ""
    spoken: str = ""
    """The name in a prompt."""


def _language(name: str, fence: str, comment: str, also: tuple[str, ...] = (), grammar: str = "", spoken: str = "") -> tuple[str, Language]:
    return name, Language(fence, comment, also, grammar or fence, spoken or name)


LANGUAGES: dict[str, Language] = dict(  # the paper's 18 (table 1), by Linguist's names
    (
        _language(PYTHON, "python", "#", ("py", "python3")),
        _language("Java", "java", "//"),
        _language("C++", "cpp", "//", ("c++", "cc", "cxx", "hpp")),
        _language("C", "c", "//", ("h",)),
        _language("JavaScript", "javascript", "//", ("js", "jsx", "node", "mjs")),
        _language("PHP", "php", "//"),
        _language("C#", "csharp", "//", ("c#", "cs")),
        _language("Go", "go", "//", ("golang",)),
        _language("TypeScript", "typescript", "//", ("ts",)),
        _language("SQL", "sql", "--", ("mysql", "postgresql", "sqlite", "plsql", "tsql")),
        _language("Ruby", "ruby", "#", ("rb",)),
        _language("Rust", "rust", "//", ("rs",)),
        _language("Jupyter Notebook", "python", "#", ("py", "python3"), spoken=PYTHON),
        _language("Scala", "scala", "//"),
        _language("Kotlin", "kotlin", "//", ("kt",)),
        _language("Shell", "bash", "#", ("sh", "shell", "zsh", "console")),
        _language("Dart", "dart", "//"),
        _language("Swift", "swift", "//"),
    )
)


def language_of_fence(word: str) -> str | None:
    """The language that a code fence names, or None where it names none of ours."""
    word = word.lower()
    return next((name for name, entry in LANGUAGES.items() if word in (entry.fence, *entry.also)), None)


def error_in(language: str, code: str) -> str | None:
    """What is wrong with ``code``, or None where it parses."""
    if LANGUAGES[language].fence == LANGUAGES[PYTHON].fence:
        return _python_error(code)
    from tree_sitter_language_pack import get_parser  # here: loading it costs what a command that needs none should not pay

    root = get_parser(LANGUAGES[language].grammar).parse(code.encode()).root_node  # type: ignore[arg-type]
    if not root.has_error:
        return None
    node = root
    while not (node.is_error or node.is_missing):
        node = next(child for child in node.children if child.has_error or child.is_missing)
    return f"line {node.start_point[0] + 1}: {'missing ' + node.type if node.is_missing else 'not ' + language}"


def _python_error(code: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file's doubtful escapes are not ours to print
        try:
            compile(ast.parse(code), "answer", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
            return f"{line}{error.msg if isinstance(error, SyntaxError) else error}"
    return None
