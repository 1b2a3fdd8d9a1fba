"""Jupyter notebooks as scripts (StarCoder2, arXiv 2402.19173, section 2.4.1): code cells as they are, markdown cells as comments, outputs left out.

Lines that are commands to the notebook and not code (``%matplotlib inline``, ``!pip install``) become comments, so that
the script parses.
"""

from __future__ import annotations

from typing import Any

import orjson

# Line comment of each kernel language; a kernel of another language is refused rather than commented wrongly.
COMMENTS = {
    **dict.fromkeys(("python", "r", "julia", "ruby", "bash", "shell", "perl", "elixir", "powershell"), "#"),
    **dict.fromkeys(("javascript", "typescript", "java", "scala", "kotlin", "c++", "c", "c#", "csharp", "go", "rust", "swift", "php", "groovy"), "//"),
    **dict.fromkeys(("sql", "haskell", "lua"), "--"),
}
_COMMANDS = ("%", "!", "?")


class NotebookError(Exception):
    """The notebook cannot be made a script; the message is the drop reason."""


def notebook_to_script(content: str) -> str:
    """The script of a notebook (format 3 or 4). Raises NotebookError where it is no notebook or its language is unknown."""
    try:
        notebook = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise NotebookError("notebook is not JSON") from error
    if not isinstance(notebook, dict):
        raise NotebookError("notebook without cells")
    cells = notebook.get("cells")
    if cells is None:  # format 3 has worksheets
        sheets = notebook.get("worksheets")
        cells = sheets[0].get("cells") if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else None
    if not isinstance(cells, list):
        raise NotebookError("notebook without cells")
    comment = COMMENTS.get(_language(notebook))
    if comment is None:
        raise NotebookError("notebook of a language without a known comment")
    parts = [part for cell in cells if isinstance(cell, dict) and (part := _cell(cell, comment))]
    return "\n\n".join(parts) + "\n" if parts else ""


def _language(notebook: dict[str, Any]) -> str:
    """The kernel's language in lower case; a notebook that states none is Python, as Jupyter assumes."""
    metadata = notebook.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for section, field in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(section)
        if isinstance(found, dict) and isinstance(found.get(field), str):
            return str(found[field]).lower()
    return "python"


def _cell(cell: dict[str, Any], comment: str) -> str:
    kind = cell.get("cell_type")
    source = cell.get("source", cell.get("input", ""))  # format 3 calls the source of code "input"
    text = "".join(line for line in source if isinstance(line, str)) if isinstance(source, list) else source
    if not isinstance(text, str) or not text.strip():
        return ""
    if kind == "code":
        if text.lstrip().startswith("%%"):  # the whole cell is for another interpreter
            return _commented(text, comment)
        return "\n".join(f"{comment} {line}" if line.lstrip().startswith(_COMMANDS) else line for line in text.rstrip("\n").split("\n"))
    return _commented(text, comment) if kind in ("markdown", "heading") else ""


def _commented(text: str, comment: str) -> str:
    return "\n".join(f"{comment} {line}".rstrip() for line in text.rstrip("\n").split("\n"))
