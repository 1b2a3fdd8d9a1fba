"""The published files, and what is said about broken ones."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.settings import BenchmarkSettings
from megatron_snow.benchmarks.sources import BENCHMARKS, EVOEVAL, FOLDER_VARIABLE, fingerprint, load

HUMANEVAL = {"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n", "test": "def check(c): pass\n"}
PLUS = HUMANEVAL | {"base_input": [[1, [2.5]]], "plus_input": [[float("inf"), None]], "atol": 1e-6, "contract": ""}
MBPP = {"task_id": 11, "text": "Add.", "code": "def one():\r\n  return 1\r\ndef add(a, b):\r\n  return a + b", "test_setup_code": "import math",
        "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "challenge_test_list": []}  # fmt: skip
BIG = {"task_id": "BigCodeBench/0", "complete_prompt": "def task_func():\n    '''Doc.'''\n", "instruct_prompt": "Write it.",
       "canonical_solution": "    return 1", "entry_point": "task_func", "test": "class TestCases: pass", "libs": "['os', 'json']"}  # fmt: skip
EVO = {"task_id": "EvoEval/0", "prompt": "def f(x):", "canonical_solution": "    return x", "entry_point": "f", "inputs": ["1", "(2,)"]}


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in ("humaneval", "mbpp")])
def test_published_files_hold_what_was_published(name: str, published: Path) -> None:
    problems = load(name, str(published))
    assert len(problems) == BENCHMARKS[name].size and {problem.benchmark for problem in problems} == {name}
    names = {"inf": float("inf"), "nan": float("nan")}
    for problem in problems:
        functions = [node.name for node in ast.walk(ast.parse(problem.prompt + problem.canonical_solution)) if isinstance(node, ast.FunctionDef)]
        assert problem.entry_point in functions and problem.docstrings()
        assert problem.base_inputs if problem.style == "inputs" else problem.test
        for written in problem.base_inputs[:3] + problem.plus_inputs[:3]:
            assert isinstance(eval(f"[{written}]", dict(names)), list)  # noqa: S307 - published arguments
    if name.startswith("bigcodebench"):
        assert all(problem.instruction and problem.libraries for problem in problems)


def test_mbpp_plus_arguments_are_of_the_types_their_own_assertions_use(published: Path) -> None:
    """Independent of our table of shapes: the release's assertions call the function with literals; their types are ours.

    Seven problems' inputs are not their assertions' in the release itself (lists for tuples, other dictionaries), which evalplus' loader keeps too.
    """
    compared, different = 0, set()
    for problem in load("mbpp+", str(published)):
        mine = [eval(f"[{written}]") for written in problem.base_inputs]  # noqa: S307 - published arguments
        for call in ast.walk(ast.parse(problem.test)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == problem.entry_point:
                theirs = eval(ast.unparse(ast.List(call.args, ast.Load())))  # noqa: S307 - published arguments
                different |= set() if theirs in mine else {problem.task_id}
                compared += 1
    assert compared > 1000 and different == {f"Mbpp/{number}" for number in (87, 98, 104, 140, 145, 301, 596)}


def test_the_papers_score_is_five_sets_of_a_hundred(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(published))
    problems = load("evoeval")
    assert len(problems) == 500 and {problem.benchmark for problem in problems} == set(EVOEVAL)


def test_rows_become_problems(tmp_path: Path) -> None:
    (plus,) = load("humaneval+", lines(tmp_path / "a.jsonl", PLUS))
    assert (plus.base_inputs, plus.plus_inputs, plus.tolerance, plus.style) == (("1, [2.5]",), ("inf, None",), 1e-6, "inputs")
    (hub,) = load("humaneval+", lines(tmp_path / "b.jsonl", HUMANEVAL))
    assert (hub.style, hub.test, hub.benchmark) == ("check", HUMANEVAL["test"], "humaneval+")
    (mbpp,) = load("mbpp", lines(tmp_path / "c.jsonl", MBPP))
    assert mbpp == Problem("Mbpp/11", '"""\nAdd.\nassert add(1, 2) == 3\n"""\n', "add", "def one():\n  return 1\ndef add(a, b):\n  return a + b\n",
                           "import math\nassert add(1, 2) == 3\nassert add(0, 0) == 0\n", "mbpp", "asserts")  # fmt: skip
    (big,) = load("bigcodebench/instruct", lines(tmp_path / "d.jsonl", BIG))
    assert (big.instruction, big.libraries, big.style, big.docstrings()) == ("Write it.", ("os", "json"), "unittest", ("Doc.",))
    (evo,) = load("evoeval/subtle", lines(tmp_path / "e.jsonl", EVO))
    assert (evo.prompt + evo.canonical_solution, evo.base_inputs) == ("def f(x):\n    return x", ("1", "(2,)"))
    sanitized = {"prompt": "Add.", "task_id": 2, "code": "def add(a, b): return a + b", "test_imports": ["import math"], "test_list": ["assert add(1, 2) == 3"]}
    (clean,) = load("mbpp", lines(tmp_path / "f.jsonl", sanitized))
    assert clean.test == "import math\nassert add(1, 2) == 3\n"
    (hub_mbpp,) = load("mbpp+", lines(tmp_path / "g.jsonl", {**sanitized, "test": "assert add(1, 1) == 2\n"}))
    assert (hub_mbpp.task_id, hub_mbpp.test) == ("Mbpp/2", "assert add(1, 1) == 2\n")


def test_every_kind_of_file_reads_the_same(tmp_path: Path) -> None:
    text = json.dumps(MBPP) + "\n"
    (tmp_path / "mbpp.jsonl").write_text(text)
    expected = load("mbpp", str(tmp_path))
    (tmp_path / "z.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "j.json").write_text(json.dumps([MBPP]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([MBPP]), tmp_path / "p.parquet")
    for file in ("z.jsonl.zst", "g.jsonl.gz", "j.json", "p.parquet"):
        assert load("mbpp", str(tmp_path / file)) == expected, file


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("humaneval+", {**PLUS, "base_input": "[]"}, "no list of argument lists in base_input"),
        ("humaneval+", {**PLUS, "atol": "0"}, "atol is '0'"),
        ("humaneval+", {**PLUS, "prompt": 3}, "no text in prompt"),
        ("mbpp+", {**PLUS, "task_id": "Mbpp/252", "base_input": [["one"]]}, "not what this problem takes"),
        ("mbpp", HUMANEVAL, "no text in code"),
        ("mbpp", {**MBPP, "test_list": []}, "no list of assertions in test_list"),
        ("mbpp", {**MBPP, "code": "def ("}, "is not Python"),
        ("mbpp", {**MBPP, "code": "x = 1"}, "defines no function"),
        ("evoeval/combine", HUMANEVAL, "no list of texts in column 'inputs'"),
        ("bigcodebench/complete", HUMANEVAL, "no text in complete_prompt"),
        ("bigcodebench/complete", {**BIG, "libs": "os"}, "is not a list"),
    ],
)
def test_rows_of_another_benchmark_are_named(name: str, row: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=message) as error:
        load(name, lines(tmp_path / "x.jsonl", row))
    assert "x.jsonl, line 1" in str(error.value)


def test_broken_files_and_names(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.jsonl.gz", b"no gzip", "cannot read the benchmark file"), ("a.jsonl.zst", b"no zstd", "cannot read the benchmark file"),
        ("a.parquet", b"PAR1", "cannot read the benchmark file"), ("a.json", b"{}", "not an array of problems"), ("a.csv", b"a,b", "not a kind of file"),
        ("a.json", b"[1]", "row 1: not an object"), ("e.jsonl", b"\n", "holds no problem"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SnowError, match=message):
            load("mbpp", str(tmp_path / name))
    with pytest.raises(SnowError, match="unknown benchmark 'humanevil'; there are: humaneval, "):
        load("humanevil")
    with pytest.raises(SnowError, match="there is no benchmark file or folder /nowhere"):
        load("mbpp", "/nowhere")
    with pytest.raises(SnowError, match=r"should hold one file MbppPlus\*.jsonl .* but has none"):
        load("mbpp+", str(tmp_path))
    with pytest.raises(SnowError, match=r"task HumanEval/0 occurs twice"):
        load("humaneval", lines(tmp_path / "twice.jsonl", HUMANEVAL, HUMANEVAL))


def test_settings_take_a_name_or_a_name_and_a_source(tmp_path: Path) -> None:
    assert BenchmarkSettings.model_validate("humaneval") == BenchmarkSettings(name="humaneval")
    assert BenchmarkSettings(name="evoeval").benchmarks() == EVOEVAL
    own = BenchmarkSettings.model_validate({"name": "mbpp", "source": lines(tmp_path / "m.jsonl", MBPP)})
    assert [problem.entry_point for problem in own.load()] == ["add"]
    before = own.fingerprint()
    lines(tmp_path / "m.jsonl", MBPP, {**MBPP, "task_id": 12})
    assert own.fingerprint() != before and fingerprint("humaneval") == "" and fingerprint("mbpp", "owner/name") == ""
    with pytest.raises(ValidationError, match="unknown benchmark; there are: humaneval"):
        BenchmarkSettings.model_validate("humanevil")


@pytest.fixture
def hub() -> Iterator[str]:
    """A server that speaks as much of the hub's protocol as its client library needs to list and fetch one data set."""
    files = {"data/test-00000.jsonl": (json.dumps(MBPP) + "\n").encode(), "data/train-00000.jsonl": b"{}\n", "README.md": b"hello"}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/datasets/owner/mbpp"):
                listing = [{"type": "file", "path": name, "rfilename": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
                body = json.dumps(listing if "/tree/" in self.path else {"id": "owner/mbpp", "sha": "1" * 40, "siblings": listing}).encode()
            elif (name := self.path.partition("/resolve/")[2].partition("/")[2].partition("?")[0]) in files:
                body = files[name]
            else:
                self.send_error(404)
                return
            self.send_response(200)
            for key, value in {"Content-Length": str(len(body)), "ETag": '"abc"', "X-Repo-Commit": "1" * 40, "Content-Type": "application/json"}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_data_set_of_the_hub_through_its_client_library(hub: str, tmp_path: Path) -> None:
    """In a process of its own: the library reads the hub's address when it is imported."""
    script = (
        "from megatron_snow.benchmarks.sources import load\nfrom megatron_snow.artifacts.errors import SnowError\n"
        "print([problem.task_id for problem in load('mbpp', 'owner/mbpp')])\n"
        "try:\n    load('humaneval+', 'owner/absent')\nexcept SnowError as error:\n    print(error)\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines()[0] == "['Mbpp/11']", result.stderr
    assert "cannot fetch the data set owner/absent from the hub" in result.stdout.splitlines()[1]
