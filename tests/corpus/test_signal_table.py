"""The columns hold what was measured, and judged again they give the same verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from megatron_snow.corpus import build
from megatron_snow.corpus.rules import measure
from megatron_snow.corpus.settings import CorpusSettings, FolderSource, RuleSettings
from megatron_snow.corpus.signal_table import SCHEMA, SUFFIX, SignalTable, join_tables
from tests.corpus.test_build import code, row


def test_rows_are_joined_in_order_and_a_failed_task_leaves_none(tmp_path: Path) -> None:
    texts = ["x = 1\n", "y = 'a'\n\n", "<p>hello</p>\n"]
    for task, text in enumerate(texts):
        with SignalTable(tmp_path / f"{task}{SUFFIX}") as table:
            table.add(f"d{task}", "HTML" if text.startswith("<") else "Python", "", measure(text, "HTML" if text.startswith("<") else "Python", RuleSettings()))
    with SignalTable(tmp_path / f"3{SUFFIX}"):
        pass  # a task whose documents all went before
    with pytest.raises(ZeroDivisionError), SignalTable(tmp_path / f"4{SUFFIX}"):
        _ = 1 / 0
    assert not (tmp_path / f"4{SUFFIX}").exists()
    join_tables([tmp_path / f"{task}{SUFFIX}" for task in range(4)], tmp_path / "signals.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "signals.parquet")
    assert table.schema == SCHEMA and table["id"].to_pylist() == ["d0", "d1", "d2"]
    assert table["characters"].to_pylist() == [len(text) for text in texts] and table["visible_characters"].to_pylist() == [None, None, 5]


def test_every_file_that_reached_the_rules_has_its_row(tmp_path: Path) -> None:
    rows = [row(f"owner/r{r}", f"m{i}.py", code(f"r{r}m{i}")) for r in range(4) for i in range(2)]
    rows += [row("owner/r0", "wide.py", "x = '" + "word " * 300 + "'\n"), row("owner/r0", "made.py", "# auto-generated\n" + code("made"))]
    rows += [row("owner/r1", "gpl.py", code("gpl"), max_stars_repo_licenses=["GPL-3.0-only"])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    work = tmp_path / "work"
    work.mkdir()
    build(CorpusSettings(sources=(FolderSource(name="rows", path=tmp_path / "rows.jsonl"),), heldout_fraction=0.3, workers=1), 1, work)
    found = {one["id"]: one for one in pyarrow.parquet.read_table(work / "signals.parquet").to_pylist()}
    assert len(found) == 10 and "rows/owner/r1/gpl.py" not in found
    wide = found["rows/owner/r0/wide.py"]
    assert (wide["broken_rule"], wide["longest_line"], wide["lines"], wide["mean_line"]) == ("long lines", 1_506, 1, 1_506.0)
    assert found["rows/owner/r0/made.py"]["broken_rule"] == "says it is generated" and found["rows/owner/r0/made.py"]["says_generated"]
    looser = [one for one in found.values() if one["longest_line"] <= 2_000 and not one["says_generated"]]
    assert len(looser) == 9  # what a looser threshold would have kept
