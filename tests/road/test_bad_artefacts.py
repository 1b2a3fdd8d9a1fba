"""Artefacts cut short, foreign, of a newer version, edited by hand: what a command that reads them says, with exit code 2 and no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.in_process import Terminal, terminal  # noqa: F401 - a fixture
from tests.road.conftest import FOLDERS, RECIPE, run_snow


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwritten(path: Path, start: int = 0, length: int = 40) -> None:
    """As many bytes as before, some of them others: what a bad disk does, and what no size tells."""
    data = bytearray(path.read_bytes())
    data[start : start + length] = bytes(byte ^ 0x5A for byte in data[start : start + length])
    path.write_bytes(bytes(data))


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def foreign(out: Path) -> None:
    shutil.rmtree(out / "2-tokenizer")
    shutil.copytree(out / "1-corpus", out / "2-tokenizer")


def broken_journal(out: Path) -> None:
    from megatron_snow.recipe.drive import open_road

    shutil.rmtree(out / "4-synthesize")
    road = open_road(RECIPE, [], out)[1]
    work = road.building(road.stages["synthesize"]).open().work
    (work / "journal.jsonl").write_text('{"id": "x", "content": 7}\n' * 2)


CASES: list[tuple[Any, str, str]] = [
    (lambda out: cut(out / "1-corpus/manifest.json"), "tokenizer", "1-corpus/manifest.json is damaged or from another version"),
    (lambda out: edited(out / "1-corpus/manifest.json", format=99), "tokenizer", "has format 99, this version reads up to 2; upgrade megatron_snow or delete"),
    (lambda out: edited(out / "1-corpus/manifest.json", key="0" * 64), "tokenizer --set seed=7", "1-corpus/manifest.json was edited or is damaged"),
    (lambda out: edited(out / "1-corpus/manifest.json", seed=8), "plan", "1-corpus/manifest.json was edited or is damaged"),
    (foreign, "tokenize", "tokenizer, which is stale (it is what the arrow corpus made, copied here)"),
    (lambda out: cut(out / "1-corpus/standard/00000.jsonl.zst"), "tokenizer --set tokenizer.train.vocabulary=900", "its manifest says"),
    (lambda out: (out / "1-corpus/standard/00000.jsonl.zst").unlink(), "tokenizer --set tokenizer.train.vocabulary=900", "is missing, its manifest names it"),
    (
        lambda out: overwritten(out / "1-corpus/standard/00000.jsonl.zst", 5000),
        "tokenizer --set tokenizer.train.vocabulary=900",
        "1-corpus/standard/00000.jsonl.zst has other contents than when it was made",
    ),
    (lambda out: overwritten(out / "2-tokenizer/tokenizer.json"), "tokenize --set tokenize.document=1MiB", "2-tokenizer/tokenizer.json has other contents"),
    (
        lambda out: overwritten(out / "5-tokenize/standard/00000.idx"),
        "train --phase general --set train.phases.general.tokens=9K",
        "00000.idx has other contents",
    ),
    (  # tokens that are tokens still: nothing that parses them could tell
        lambda out: overwritten(out / "5-tokenize/standard/00000.bin", 100, 1),
        "train --phase general --set train.phases.general.tokens=9K",
        "5-tokenize/standard/00000.bin has other contents than when it was made",
    ),
    (
        lambda out: cut(out / "5-tokenize/standard/00000.bin"),
        "train --phase general --set train.phases.general.tokens=9K",
        "5-tokenize/standard/00000.bin has",
    ),
    (
        lambda out: [overwritten(path, 3000) for path in (out / "6-train/general/checkpoints").rglob("*.distcp")],
        "convert --phase general",
        ".distcp has other contents",
    ),
    (
        lambda out: overwritten(out / "7-convert/general/model.safetensors"),
        "evaluate --phase general --set evaluate.max_new_tokens=9 --set evaluate.sandbox.isolation=process",
        "7-convert/general/model.safetensors has other contents",
    ),
    (lambda out: overwritten(out / "3-annotate/high_quality/00000.jsonl.zst", 100, 1), "verify", "1 of 15 artefacts are not what their manifests say: "),
    (lambda out: overwritten(out / "3-annotate/scores.parquet"), "trace --repo pip", "scores.parquet cannot be read"),
    (lambda out: overwritten(out / "1-corpus/dropped.jsonl.zst", 6), "trace --repo pip", "dropped.jsonl.zst is damaged"),
    (lambda out: overwritten(out / "5-tokenize/standard/00000.documents.jsonl.zst", 6), "trace --repo pip", "run the tokenize arrow again"),
    (lambda out: (out / "5-tokenize/standard/00000.json").write_text("{}"), "trace --repo pip", "00000.json is missing or damaged"),
    (lambda out: (out / "1-corpus/summary.json").unlink(), "trace --step 1", "summary.json is missing or damaged"),
    (broken_journal, "synthesize", "journal.jsonl"),
]


@pytest.mark.parametrize(("spoil", "command", "complaint"), CASES, ids=[f"{number} {command.split(' -')[0]}" for number, (_, command, _) in enumerate(CASES)])
def test_a_spoilt_artefact(own_road, terminal: Terminal, spoil, command, complaint):  # noqa: F811
    out = own_road(*FOLDERS[:8])
    if command.startswith("convert"):
        shutil.rmtree(out / "7-convert")
    spoil(out)
    arrow, *more = command.split(" ")
    assert complaint in terminal.refused(arrow, RECIPE, *more, "--out", out)


def test_the_plan_says_what_was_copied_or_edited(own_road, terminal: Terminal, capsys):  # noqa: F811
    out = own_road(*FOLDERS[:5])
    foreign(out)
    from megatron_snow.recipe.drive import open_road

    status = open_road(RECIPE, [], out)[1].status("tokenizer")
    assert (status.state, status.why) == ("stale", "it is what the arrow corpus made, copied here")


def test_verify_reads_every_artefact_and_names_what_is_wrong(own_road):
    out = own_road(*FOLDERS[:6])
    overwritten(out / "5-tokenize/standard/00000.bin", 100, 1)
    edited(out / "2-tokenizer/manifest.json", seed=8)
    result = run_snow("verify", RECIPE, "--out", out, "--json")
    assert result.returncode == 2 and "2 of 15 artefacts are not what their manifests say" in result.stderr
    rows = {row["stage"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert {name for name, row in rows.items() if row["state"] == "wrong"} == {"tokenizer", "tokenize"}
    whole = {"corpus", "annotate", "synthesize", "train general", "train continued", "train enhanced"}
    assert {name for name, row in rows.items() if row["state"] == "whole"} == whole
    assert "00000.bin has other contents" in rows["tokenize"]["faults"][0] and "was edited" in rows["tokenizer"]["faults"][0]
