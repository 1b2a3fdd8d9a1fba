"""Planted problems are found in every kind of data that is audited, and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from typer.testing import CliRunner

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.cli import commands
from megatron_snow.corpus.audit import audit, render
from megatron_snow.corpus.decontamination import Detector, items
from megatron_snow.tokens.writer import IndexedWriter

PROBLEMS = load_humaneval()
DETECTOR = Detector(items(PROBLEMS), 30)
CLEAN = "def total(values):\n    return sum(values)\n"


def planted(number: int) -> str:
    return CLEAN + PROBLEMS[number].prompt + PROBLEMS[number].canonical_solution


def fill(folder: Path) -> None:
    """A tier, and beside it raw rows in two formats: three documents of a problem among seven, and one row without text."""
    texts = {"t/clean.py": CLEAN, "t/bad.py": planted(3)}
    write_documents(
        folder / "tier",
        [Document(id=name, text=text, language="Python", repository="r", path="p", license="", source="s") for name, text in texts.items()],
    )
    (folder / "rows.jsonl").write_text("".join(json.dumps({"content": text}) + "\n" for text in (CLEAN, planted(5))) + '{"other": 1}\n')
    pyarrow.parquet.write_table(pyarrow.table({"content": [CLEAN, planted(5).upper(), CLEAN]}), folder / "rows.parquet")


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_of_all_kinds(tmp_path: Path, workers: int) -> None:
    fill(tmp_path)
    result = audit(tmp_path, DETECTOR, workers=workers)
    assert (result["documents"], result["unreadable"]) == (7, 1)
    counts = result["benchmarks"]["humaneval"]
    assert (counts["sought"], counts["found"], counts["found_exactly"], counts["documents"]) == (164, 2, 2, 3)
    found = {(match["document"], match["problem"]) for match in result["matches"]}
    assert found == {("t/bad.py", "HumanEval/3"), ("rows.jsonl:1", "HumanEval/5"), ("rows.parquet:0:1", "HumanEval/5")}
    said = render(result, shown=1)
    assert "humaneval" in said and "and 5 more" in said


def byte_level_tokenizer(folder: Path) -> Tokenizer:
    """A BPE trained on a text of the tests, over bytes: its ids give every text back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([planted(7)], trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize("workers", [1, 2])
def test_tokens_need_their_tokenizer_and_are_decoded(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_snow.corpus.audit._DOCUMENTS", 2)  # so that there are several parts
    encoder = byte_level_tokenizer(tmp_path / "tokenizer")
    texts = [CLEAN, planted(7), CLEAN + "# naïve \u2028 \U0001f40d\n", planted(9), "", CLEAN]
    with IndexedWriter(tmp_path / "data", np.dtype("<u2")) as out:
        for text in texts:
            ids = encoder.encode(text).ids
            assert encoder.decode(ids, skip_special_tokens=False) == text
            out.add(np.array(ids, dtype="<u2"))
        out.finish()
    with pytest.raises(SnowError, match="give the tokenizer that made them"):
        audit(tmp_path / "data", DETECTOR)
    for target, name in ((tmp_path / "data.bin", "data"), (tmp_path / "data", "data"), (tmp_path, "data")):
        result = audit(target, DETECTOR, tmp_path / "tokenizer", workers)
        assert (result["documents"], result["bytes"]) == (len(texts), sum(len(text.encode()) for text in texts))
        found = {(match["document"], match["problem"]) for match in result["matches"] if match["how"] == "exact"}
        assert found == {(f"{name}:1", "HumanEval/7"), (f"{name}:3", "HumanEval/9")}


def test_the_command_audits_tokens(tmp_path: Path) -> None:
    encoder = byte_level_tokenizer(tmp_path / "tokenizer")
    with IndexedWriter(tmp_path / "data", np.dtype("<u2")) as out:
        out.add(np.array(encoder.encode(planted(7)).ids, dtype="<u2"))
        out.finish()
    command = ["audit", str(tmp_path / "data"), "--workers", "1"]
    found = CliRunner().invoke(commands.app, [*command, "--tokenizer", str(tmp_path / "tokenizer")])
    assert found.exit_code == 1 and "humaneval HumanEval/7, solution, exactly: data:0" in found.output
    refused = CliRunner().invoke(commands.app, [*command, "--tokenizer", str(tmp_path / "absent")])
    assert isinstance(refused.exception, SnowError) and "no Hugging Face tokenizer.json there" in str(refused.exception)


def test_the_command_ends_with_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "clean.jsonl").write_text(json.dumps({"text": CLEAN}) + "\n")
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": planted(0), "id": "s/r/a.py"}) + "\n")
    run = CliRunner()
    clean = run.invoke(commands.app, ["audit", str(tmp_path / "clean.jsonl"), "--workers", "1"])
    assert clean.exit_code == 0 and "1 documents" in clean.output
    bad = run.invoke(commands.app, ["audit", str(tmp_path / "bad.jsonl"), "--report", str(tmp_path / "report.json"), "--workers", "1"])
    assert bad.exit_code == 1 and "humaneval HumanEval/0, solution, exactly: s/r/a.py" in bad.output
    assert json.loads((tmp_path / "report.json").read_text())["benchmarks"]["humaneval"]["found"] == 1


def test_what_cannot_be_audited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"there is no .*absent"):
        audit(tmp_path / "absent", DETECTOR)
    with pytest.raises(SnowError, match="nothing to audit"):
        audit(tmp_path, DETECTOR)
    (tmp_path / "damaged.jsonl.zst").write_bytes(b"no such frame")
    with pytest.raises(SnowError, match="fetch or make it again"):
        audit(tmp_path, DETECTOR)
    result = CliRunner().invoke(commands.app, ["audit", str(tmp_path), "--benchmark", "humanevil"])
    assert isinstance(result.exception, SnowError) and "unknown benchmark" in str(result.exception)
