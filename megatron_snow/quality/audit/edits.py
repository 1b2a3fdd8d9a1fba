"""Counterfactual edits: the same program without its comments, with other names, another layout. What does the score do?

Comments and names are found by tree-sitter, so a mark inside a string is none; a file that does not parse, or of a language without
a grammar here, is left out of the edit. Renaming is consistent within a file and spares keywords, imports, builtins and Python's
attributes; names from elsewhere are renamed too, so that the file may not link any more: what a reader loses is the same.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterator
from typing import Any

from megatron_snow.quality.heuristics import docstring_lines, parse_python, source_lines

GRAMMARS = {
    "C": "c", "C#": "csharp", "C++": "cpp", "Go": "go", "Java": "java", "JavaScript": "javascript", "Kotlin": "kotlin", "PHP": "php", "Perl": "perl",
    "Python": "python", "Ruby": "ruby", "Rust": "rust", "Scala": "scala", "Shell": "bash", "Swift": "swift", "TypeScript": "typescript",
}  # fmt: skip
"""Linguist's name -> tree-sitter's."""
_BUILTINS = frozenset(dir(builtins)) | {"self", "cls"}  # Python's
_SPARED = frozenset({"main", "std", "super", "this", "console", "require", "module", "exports"})  # other languages'
_IMPORTING = re.compile(r"import|include|use_|using|package|preproc|attribute")
_LONGEST = 200_000  # characters: longer files are left out of edits (ours: parsing is to stay under a second)
_NAMES = frozenset({"identifier", "variable_name", "simple_identifier", "constant"})


def _nodes(language: str, text: str) -> list[Any] | None:
    """All nodes of the tree, parents first; None where there is no grammar or the file does not parse."""
    if language not in GRAMMARS or len(text) > _LONGEST:
        return None
    from tree_sitter_language_pack import get_parser

    root = get_parser(GRAMMARS[language]).parse(text.encode("utf-8", "surrogatepass")).root_node  # type: ignore[arg-type]
    if root.has_error:
        return None
    found, open_ = [], [root]
    while open_:
        node = open_.pop()
        found.append(node)
        open_ += node.children
    return found


def _replaced(text: str, spans: list[tuple[int, int, bytes]]) -> str:
    """``text`` with byte ranges replaced."""
    data, result, at = text.encode("utf-8", "surrogatepass"), [], 0
    for start, end, new in sorted(spans):
        if start >= at:
            result += [data[at:start], new]
            at = end
    result.append(data[at:])
    return b"".join(result).decode("utf-8", "surrogatepass")


def strip_comments(language: str, text: str) -> str | None:
    """Without comments, and without the lines that held nothing else."""
    nodes = _nodes(language, text)
    if nodes is None:
        return None
    spans = [(node.start_byte, node.end_byte, b"") for node in nodes if "comment" in node.type and not (node.start_byte == 0 and node.text.startswith(b"#!"))]
    return _without_emptied_lines(text, _replaced(text, _keeping_lines(text, spans)))


def _keeping_lines(text: str, spans: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    data = text.encode("utf-8", "surrogatepass")
    return [(start, end, b"\n" * data[start:end].count(b"\n")) for start, end, _ in spans]


def _without_emptied_lines(before: str, after: str) -> str:
    """Drops the lines of ``after`` that are blank and were not; both have the same number of lines."""
    pairs = zip(before.split("\n"), after.split("\n"), strict=True)
    return "\n".join(new.rstrip() if new != old else new for old, new in pairs if new.strip() or not old.strip())


def strip_docstrings(language: str, text: str) -> str | None:
    """Without docstrings (Python only); a body of nothing else becomes ``...``."""
    tree = parse_python(text) if language == "Python" else None
    if tree is None:
        return None
    covered = docstring_lines(tree)
    lines = source_lines(text)
    result = []
    for number, line in enumerate(lines, start=1):
        if number not in covered:
            result.append(line)
        elif number - 1 not in covered and (indent := line[: len(line) - len(line.lstrip())]):
            result.append(f"{indent}...")
    edited = "\n".join(result)
    return edited if parse_python(edited) is not None else None


def strip_head(language: str, text: str) -> str | None:
    """Without the comments before the first line of code: licence notices, mostly."""
    nodes = _nodes(language, text)
    if nodes is None:
        return None
    end = 0
    for child in sorted(nodes[0].children, key=lambda node: node.start_byte):
        if "comment" not in child.type:
            break
        end = child.end_byte
    return _replaced(text, [(0, end, b"")]).lstrip("\r\n")


def rename(language: str, text: str) -> str | None:
    """Names become v0, v1, ... in order of appearance."""
    nodes = _nodes(language, text)
    if nodes is None:
        return None
    names: dict[bytes, bytes] = {}
    spans = []
    for node in sorted(_leaves(nodes), key=lambda node: node.start_byte):
        name = node.text
        bare = name.lstrip(b"$")
        if (
            len(bare) < 2
            or bare.decode("utf-8", "replace") in (_BUILTINS if language == "Python" else _SPARED)
            or (bare.startswith(b"__") and bare.endswith(b"__"))
        ):
            continue
        new = names.setdefault(name, name[: len(name) - len(bare)] + f"v{len(names)}".encode())
        spans.append((node.start_byte, node.end_byte, new))
    return _replaced(text, spans)


def _leaves(nodes: list[Any]) -> Iterator[Any]:
    for node in nodes:
        if node.type not in _NAMES or (node.child_count and node.type != "variable_name"):
            continue
        parent, spared = node.parent, False
        if parent is not None and parent.type == "attribute" and parent.child_by_field_name("attribute") == node:
            continue  # Python's x.name
        if parent is not None and parent.type == "keyword_argument" and parent.child_by_field_name("name") == node:
            continue
        while parent is not None and not spared:
            spared = parent.type != "attribute" and _IMPORTING.search(parent.type) is not None and parent.parent is not None
            parent = parent.parent
        if not spared:
            yield node


def _indents(text: str, unit: Callable[[int], str]) -> str:
    lines = text.split("\n")
    depths = [len(line) - len(line.lstrip(" ")) for line in lines if line.startswith(" ") and line.strip()]
    # A level is 8, 4 or 2 spaces where nearly all lines fit (ours): a comment's continuation or an aligned argument is none.
    step = next((width for width in (8, 4, 2) if sum(depth % width == 0 for depth in depths) >= 0.8 * max(len(depths), 1)), 1)
    result = []
    for line in lines:
        body = line.lstrip(" \t")
        lead = line[: len(line) - len(body)]
        spaces = lead.count(" ")
        result.append(unit(lead.count("\t") + spaces // step) + " " * (spaces % step) + body if body else "")
    return "\n".join(result)


def reindent(language: str, text: str) -> str | None:
    """Two spaces a level where there were four, and tabs where there were two or less."""
    if language == "Python" and parse_python(text) is None:
        return None
    wide = re.search(r"^ {4,}\S", text, re.MULTILINE) is not None and re.search(r"^ {1,3}\S", text, re.MULTILINE) is None
    edited = _indents(text, lambda depth: ("  " if wide else "\t") * depth)
    return None if language == "Python" and parse_python(edited) is None else edited


def no_blank_lines(language: str, text: str) -> str | None:
    """Without blank lines."""
    return "\n".join(line for line in text.split("\n") if line.strip()) + "\n"


def minify(language: str, text: str) -> str | None:
    """Without comments, docstrings and blank lines, names renamed, one space (a tab in other languages' place) a level."""
    for step in (strip_docstrings if language == "Python" else None, strip_comments, rename):
        edited = step(language, text) if step else text
        if edited is None:
            return None
        text = edited
    return no_blank_lines(language, _indents(text, lambda depth: " " * depth))


EDITS: dict[str, Callable[[str, str], str | None]] = {
    "comments stripped": strip_comments,
    "docstrings stripped": strip_docstrings,
    "head stripped": strip_head,
    "names renamed": rename,
    "reindented": reindent,
    "blank lines removed": no_blank_lines,
    "minified": minify,
}
"""Name -> (language, text) -> edited text, or None where the edit cannot be made."""
