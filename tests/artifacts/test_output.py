"""What a command says: text, nothing but results, or events that a program can read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from megatron_snow.artifacts.output import VARIABLE, form
from megatron_snow.artifacts.progress import Progress, say


def test_json_gives_an_event_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VARIABLE, "json")
    stream = io.StringIO()
    with Progress("scoring", total=4, unit="files", stream=stream) as bar:
        bar.advance(3, "half\nway")
    say("  hello\x1b[31m")
    (last,) = map(json.loads, stream.getvalue().splitlines())
    assert {name: last[name] for name in ("event", "label", "done", "total", "unit", "finished", "note")} == {
        "event": "progress", "label": "scoring", "done": 3, "total": 4, "unit": "files", "finished": True, "note": "half\nway",
    }  # fmt: skip
    assert last["rate"] > 0 and last["eta"] >= 0 and last["seconds"] >= 0
    said = capsys.readouterr()
    assert json.loads(said.err)["text"] == "hello\x1b[31m" and said.out == ""


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VARIABLE, "quiet")
    with Progress("scoring", total=4) as bar:
        bar.advance(4)
    say("hello")
    assert capsys.readouterr() == ("", "")


def test_a_log_of_a_long_step_gets_rarer_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of advances a second: some thousands of plain lines, ten seconds apart at first."""
    from megatron_snow.artifacts import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    bar = Progress("training", total=30 * 86_400, unit="steps", stream=stream)
    for second in range(30 * 86_400):
        now[0] = float(second)
        bar.advance()
        if second == 600:
            assert stream.getvalue().count("\n") == 60
    assert stream.getvalue().count("\n") < 5_000 and "\r" not in stream.getvalue()


@pytest.mark.parametrize(("given", "expected"), [("json", "json"), ("quiet", "quiet"), ("", "text"), ("loud", "text")])
def test_the_form_is_the_environments(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv(VARIABLE, given)
    assert form() == expected


def snow(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "megatron_snow", *arguments], capture_output=True, text=True, env=os.environ, check=False)


def test_flags_stand_anywhere_and_errors_take_the_form_too() -> None:
    for arguments in (("--json", "plan", "none.yaml"), ("plan", "none.yaml", "--json")):
        result = snow(*arguments)
        error = json.loads(result.stderr)
        assert result.returncode == error["exit_code"] == 2 and error["event"] == "error" and "cannot read the recipe none.yaml" in error["message"]
    quiet = snow("plan", "--quiet", "none.yaml")
    assert quiet.returncode == 2 and quiet.stderr.startswith("snow: cannot read the recipe none.yaml")
    both = snow("plan", "none.yaml", "--json", "--quiet")
    assert both.returncode == 2 and "exclude each other" in both.stderr
