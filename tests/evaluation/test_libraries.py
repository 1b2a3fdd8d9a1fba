from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.evaluation.generation import Completion
from megatron_snow.evaluation.libraries import missing, wanted
from megatron_snow.evaluation.passing import judge
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.sandbox import SandboxSettings, capabilities, run, run_many

CASES = "import unittest\nfrom snow_probe.deep import TWO\nclass TestCases(unittest.TestCase):\n    def test(self): self.assertEqual(task_func(), TWO)\n"
PROBLEM = Problem("B/1", "import json\ndef task_func():\n", "task_func", "    return 2\n", CASES, "bigcodebench/complete", "unittest", libraries=("xml.etree",))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real virtual environment below /tmp with one package of ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    package = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages" / "snow_probe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("TWO = 2\n")
    return folder


def test_what_a_problem_wants_is_what_it_and_its_tests_import() -> None:
    assert wanted(PROBLEM) == {"json", "unittest", "snow_probe", "xml"}
    assert missing([PROBLEM], SandboxSettings()) == {"B/1": ["snow_probe"]}
    assert missing([Problem("T/1", "import numpy\n", "f", "", "")], SandboxSettings()) == {}, "only BigCodeBench's problems bring needs of their own"


def test_an_environment_gives_programs_its_packages_and_nothing_to_write(environment: Path) -> None:
    chosen = SandboxSettings(environment=environment)
    assert missing([PROBLEM], chosen) == {}
    settings = EvaluateSettings(sandbox=chosen)
    rows = judge([(PROBLEM, number, Completion(f"    return {number}\n", "stop")) for number in (1, 2)], settings)
    assert [row["passed"] for row in rows] == [False, True]
    spoil = "import snow_probe.deep as d\nopen(d.__file__, 'w')"
    for result in (run(spoil, chosen), *run_many([spoil], 1, chosen)):
        assert result.status == "failed" and "Read-only file system" in result.stderr


def test_an_environment_without_isolation(environment: Path) -> None:
    assert run("import snow_probe.deep", SandboxSettings(environment=environment, isolation="process")).status == "passed"


def test_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    assert capabilities().namespaces or pytest.skip(capabilities().reason)
    with pytest.raises(SnowError, match=r"no virtual environment with a working Python .*tools/bigcodebench\.sh"):
        missing([PROBLEM], SandboxSettings(environment=tmp_path))
