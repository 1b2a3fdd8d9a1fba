"""Programs run in the sandbox and read by the linter: which pass, what is kept of a killed run, what drops."""

import json

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.sandbox import SandboxSettings, capabilities
from megatron_snow.synthesis import synthesize
from megatron_snow.synthesis.checks import Program, asserts, kinds, lint, per_100_lines, run_programs
from megatron_snow.synthesis.settings import LintSettings, VerifySettings
from tests.synthesis.conftest import DECONTAMINATION, completion, settings

SANDBOX = SandboxSettings(isolation="namespaces" if capabilities().namespaces else "process", timeout=20)
ENDS = {
    "passed": "assert 1 + 1 == 2\n", "ran": "print('no check')\n", "failed": "assert 1 + 1 == 3\n", "left": "import sys\nsys.exit()\nassert False\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("assert f(1) == 2", True), ("import unittest\nunittest.main()", True), ("import doctest\ndoctest.testmod()", True),
        ("class T:\n    def test(self):\n        self.assertEqual(1, 1)", True), ("print(f(1))", False), ("# assert nothing\nx = 'assert'", False),
    ],
)  # fmt: skip
def test_what_asserts(text, checks):
    assert asserts(text) is checks


def test_how_programs_end_and_a_killed_run_goes_on(tmp_path):
    programs = [Program(name, text) for name, text in ENDS.items()]
    path = tmp_path / "programs.jsonl"
    found = run_programs(programs, VerifySettings(sandbox=SANDBOX, workers=2), path)
    assert found == {"passed": "passed", "ran": "ran", "failed": "failed", "left": "failed"}
    path.write_bytes(b'{"request":"passed","status":"killed"}\n' + path.read_bytes().splitlines(keepends=True)[1] + b'{"request":"fai')
    again = run_programs(programs, VerifySettings(sandbox=SANDBOX, workers=2), path)
    assert again == found | {"passed": "killed"}  # as the file says: it was not run again
    assert len(path.read_text().splitlines()) == 4


def test_what_the_linter_finds():
    good, bad = Program("a", "x = 1\nprint(x)\n"), Program("b", "import os\n\ndef f(a=[]):\n    return undefined\n")
    found = {program.request: sorted(codes) for program, codes in lint([good, bad], LintSettings())}
    assert found == {"a": [], "b": ["B006", "F401", "F821"]}
    assert per_100_lines(bad, found["b"]) == 100 and kinds(found.values()) == dict.fromkeys(found["b"], 1)
    with pytest.raises(SnowError, match="ruff cannot be run"):
        list(lint([good], LintSettings(select=("NOSUCHRULE",))))


def test_verified_documents_are_kept_apart_and_required_ones_drop(serve, quality, tokenizer, tmp_path):
    endings = ["assert area(2, 3) == 6", "print(area(2, 3))", "assert area(2, 3) == 7", "import os"]

    def behave(handler, body, turn):
        filler = " ".join(f"word{turn}{i}" for i in range(30))
        code = f"def area(width, height):\n    return width * height  # {filler}\n\n\n{endings[turn % 4]}\n"
        handler.reply(200, completion(f"Problem: compute the area of a rectangle, please.\n```python\n{code}```\n"))

    counts = {}
    for required in (False, True):
        work = tmp_path / f"work-{required}"
        work.mkdir()
        chosen = settings(serve(behave), requests=8, concurrency=1, python_share=1.0, verify={"sandbox": SANDBOX, "required": required})
        chosen = chosen.model_copy(update={"lint": LintSettings(most_per_100_lines=10 if required else None)})
        counts[required] = synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)
        rows = {row["id"]: row["text"] for row in read_documents(work / "synthetic")}
        verified = {row["id"]: row["text"] for row in read_documents(work / "verified")}
        assert len(verified) == 2 and verified.items() <= rows.items() and all("== 6" in text for text in verified.values())
    assert counts[False]["accepted"] == 8 and counts[True]["accepted"] == 4
    assert counts[True]["dropped"] == {"fails its tests": 2, "lint": 2}
    summary = json.loads((tmp_path / "work-False" / "summary.json").read_text())
    assert summary["verified"] == {"ran": 4, "passed": 2, "failed": 2} and summary["lint"]["kinds"] == {"F401": 2}
