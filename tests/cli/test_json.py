"""``--json``: what commands end with, as one JSON object on standard output, and why they end early, as one on standard error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import orjson
import pytest

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.output import VARIABLE, last_words
from megatron_snow.cli.commands import main
from tests.synthesis.conftest import MODEL, Endpoint, completion, document

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """``answer("corpus", recipe)`` -> what a command wrote to standard output; all of standard error is JSON lines."""

    def run(*arguments: object) -> str:
        monkeypatch.setenv(VARIABLE, "text")
        monkeypatch.setattr(sys, "argv", ["snow", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert not end.value.code, said.err
        if "--json" in arguments:
            assert all("event" in json.loads(line) for line in said.err.splitlines())
        return said.out

    return run


def test_an_arrow_ends_with_what_it_made(answer, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    rows = [
        {"content": f"def area_{n}(width_{n}):\n    return width_{n} * {n}  # of {'abcdefgh'[n]}\n", "path": f"{n}.py", "repository_name": f"o/{n}",
         "detected_licenses": ["MIT"], "license_type": "permissive"}
        for n in range(8)
    ]  # fmt: skip
    (tmp_path / "rows" / "0.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    source = f"corpus.sources=[{{kind: folder, name: rows, path: {tmp_path / 'rows'}}}]"
    command = ("corpus", TINY, "--out", tmp_path / "out", "--set", source)
    assert answer(*command) == ""  # people are told on the way
    (line,) = answer(*command, "--json").splitlines()
    found = json.loads(line)
    assert (found["arrow"], list(found["stages"])) == ("corpus", ["corpus"])
    assert found["stages"]["corpus"]["folder"] == str(tmp_path / "out" / "1-corpus") and found["stages"]["corpus"]["counts"]["documents_in"] == 8
    assert found["stages"]["corpus"]["seconds"] > 0


def test_label_ends_with_its_counts(answer, tmp_path: Path) -> None:
    endpoint = Endpoint(lambda handler, body, turn: handler.reply(200, completion("Score: 3")))
    write_documents(tmp_path / "out" / "1-corpus" / "standard", [document(n) for n in range(4)])
    sets = (f"synthesize={{endpoints: ['{endpoint.url}'], model: {MODEL}}}", "tokenizer.train.vocabulary=300")
    command = ("label", TINY, "--out", tmp_path / "out", "--to", tmp_path / "labels.jsonl", "--files", 3, *(flag for one in sets for flag in ("--set", one)))
    assert json.loads(answer(*command, "--json")) == {
        "file": str(tmp_path / "labels.jsonl"), "files": 3, "labelled": 3, "model": MODEL, "labels": {"3": 3},
    }  # fmt: skip
    assert "3 of 3 files labelled by teacher" in answer(*command)
    endpoint.close()


@pytest.mark.parametrize(("form", "expected"), [("text", "snow: the end\n"), ("quiet", "snow: the end\n"), ("json", None)])
def test_last_words_take_the_form_that_was_asked_for(
    form: str, expected: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, form)
    last_words("the end", 4)
    said = capsys.readouterr().err
    if expected is None:
        event = json.loads(said)
        assert {name: event[name] for name in ("event", "message", "exit_code")} == {"event": "error", "message": "the end", "exit_code": 4}
    else:
        assert said == expected
