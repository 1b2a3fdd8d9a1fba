"""Notebooks as scripts."""

from __future__ import annotations

import ast
import json

import pytest

from megatron_snow.corpus.notebooks import NotebookError, notebook_to_script


def notebook(cells: list[dict], language: str | None = "python") -> str:
    metadata = {"language_info": {"name": language}} if language else {}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4})


def test_code_and_markdown_without_outputs() -> None:
    script = notebook_to_script(
        notebook(
            [
                {"cell_type": "markdown", "source": ["# Title\n", "\n", "text"]},
                {"cell_type": "code", "source": ["%matplotlib inline\n", "x = 1\n", "!ls\n", "x"], "outputs": [{"text": "SECRET"}]},
                {"cell_type": "code", "source": "%%bash\necho hi"},
                {"cell_type": "raw", "source": "raw"},
                {"cell_type": "code", "source": []},
            ]
        )
    )
    assert script == "# # Title\n#\n# text\n\n# %matplotlib inline\nx = 1\n# !ls\nx\n\n# %%bash\n# echo hi\n"
    ast.parse(script)


def test_format_three_and_other_languages() -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}, {"cell_type": "heading", "source": "H"}]}], "metadata": {}}
    assert notebook_to_script(json.dumps(old)) == "x = 1\n\n# H\n"
    assert notebook_to_script(notebook([{"cell_type": "markdown", "source": "hi"}], "scala")) == "// hi\n"
    assert notebook_to_script(notebook([{"cell_type": "markdown", "source": "hi"}], None)) == "# hi\n"
    assert notebook_to_script(notebook([])) == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "without cells"),
        ('{"cells": 1}', "without cells"),
        ('{"worksheets": []}', "without cells"),
        (notebook([], "brainfuck"), "language"),
    ],
)
def test_what_is_no_notebook_is_refused_with_a_reason(content: str, reason: str) -> None:
    with pytest.raises(NotebookError, match=reason):
        notebook_to_script(content)


def test_odd_cells_are_skipped() -> None:
    assert notebook_to_script('{"cells": [1, null, {"cell_type": "code", "source": 3}, {"cell_type": "code", "source": "x"}]}') == "x\n"
