"""What only some recipes ask of a Python document: that its own tests pass, in the sandbox, and that a linter finds little in it.

Running a program says more than parsing it. A document that asserts something and runs to its end has *passed* its own tests, one that runs
to its end and asserts nothing only *ran*. What the model asserts is the model's idea too: this is a check of the file against itself.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.processes import cpus
from megatron_snow.artifacts.progress import track
from megatron_snow.sandbox import run_many
from megatron_snow.synthesis.settings import LintSettings, VerifySettings

_ASSERTING = re.compile(
    r"unittest|doctest|pytest|assert\w*$"
)  # calls that check: unittest.main(), doctest.testmod(), self.assertEqual(), np.testing.assert_allclose()
_FILES = 500  # documents a linter process reads (ours: its start is 20 ms)
PASSED, RAN = "passed", "ran"


@dataclass(frozen=True)
class Program:
    """A Python document, by its request."""

    request: str
    text: str


def asserts(text: str) -> bool:
    """Whether a file, which parses, checks anything: an assert, or a call of a test framework's."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call) and _ASSERTING.search(ast.unparse(node.func)):
            return True
    return False


def run_programs(programs: list[Program], settings: VerifySettings, path: Path) -> dict[str, str]:
    """Request -> ``passed``, ``ran``, or how else its program ended (``sandbox.Result.status``).

    Results are kept in ``path``, a line each, so that a killed run goes on. Raises SnowError where the machine cannot isolate a program.
    """
    done = _read(path)
    left = [program for program in programs if program.request not in done]
    results = run_many((program.text for program in left), settings.workers or cpus(), settings.sandbox, to_the_end=True)
    with path.open("ab", buffering=0) as out:
        for program, result in track(zip(left, results, strict=True), "running programs", len(left), "programs"):
            status = RAN if result.status == "passed" and not asserts(program.text) else str(result.status)
            out.write(orjson.dumps({"request": program.request, "status": status}) + b"\n")
            done[program.request] = status
    return {program.request: done[program.request] for program in programs}


def _read(path: Path) -> dict[str, str]:
    """What an earlier run left; a last line that was cut short is dropped."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return {row["request"]: row["status"] for row in map(orjson.loads, whole.splitlines())}


def lint(programs: Iterable[Program], settings: LintSettings) -> Iterator[tuple[Program, list[str]]]:
    """Each program with the codes of what ruff finds in it. Raises SnowError where there is no ruff."""
    stream = iter(programs)
    while batch := list(islice(stream, _FILES)):
        with tempfile.TemporaryDirectory(prefix="snow-") as folder:
            for index, program in enumerate(batch):
                (Path(folder) / f"{index}.py").write_text(program.text, encoding="utf-8")
            found: list[list[str]] = [[] for _ in batch]
            for row in _ruff(folder, settings):
                found[int(Path(row["filename"]).stem)].append(row["code"] or "syntax")
        yield from zip(batch, found, strict=True)


def _ruff(folder: str, settings: LintSettings) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--exit-zero",
        "--output-format",
        "json",
        "--select",
        ",".join(settings.select),
    ]
    done = subprocess.run([*command, folder], capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise SnowError(f"synthesize.lint: ruff cannot be run ({said}); pip install ruff, correct lint.select, or leave lint out")
    return orjson.loads(done.stdout)


def per_100_lines(program: Program, codes: list[str]) -> float:
    """Findings in a hundred lines that are not blank."""
    return 100 * len(codes) / max(1, sum(bool(line.strip()) for line in program.text.splitlines()))


def kinds(found: Iterable[list[str]]) -> dict[str, int]:
    """How often each code was found, most frequent first."""
    return dict(Counter(code for codes in found for code in codes).most_common())
