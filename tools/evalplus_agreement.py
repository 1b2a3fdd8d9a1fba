#!/usr/bin/env python3
"""Our verdicts beside evalplus', problem by problem: on a model's completions, or on the canonical solutions.

python tools/evalplus_agreement.py EVALPLUS_PYTHON humaneval+|mbpp+ [--journal FILE] [--source FOLDER] [--problems N]

EVALPLUS_PYTHON: of an environment with evalplus 0.3.1. ``--journal``: the benchmark's file of an evaluate artefact; left out, the canonical solutions
are judged first. evalplus runs programs outside our sandbox, under guards of its own only: give it what you would run yourself. Its limits, which are of
wall time, are loosened (30 s a call, 10 times the canonical solution's). Prints each difference; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.rows import locate
from megatron_snow.benchmarks.sources import BENCHMARKS, load, source_of
from megatron_snow.evaluation import programs
from megatron_snow.evaluation.generation import Completion
from megatron_snow.evaluation.passing import Verdict, judge, read_journal
from megatron_snow.evaluation.settings import EvaluateSettings

NAMES = {"humaneval+": ("humaneval", "HUMANEVAL_OVERRIDE_PATH"), "mbpp+": ("mbpp", "MBPP_OVERRIDE_PATH")}


def theirs(python: str, benchmark: str, source: str, programs_of: dict[str, str], folder: Path) -> dict[str, tuple[bool, bool]]:
    """(base tests, all tests) of each task by evalplus. ``programs_of``: a whole program a task."""
    dataset, variable = NAMES[benchmark]
    (published,) = locate(source_of(benchmark, source), BENCHMARKS[benchmark].stem, "")
    text = gzip.decompress(published.read_bytes()) if published.suffix == ".gz" else published.read_bytes()
    rows = [line for line in text.splitlines() if line.strip() and json.loads(line)["task_id"] in programs_of]
    problems, samples = folder / "problems.jsonl", folder / "samples.jsonl"
    problems.write_bytes(b"\n".join(rows) + b"\n")
    samples.write_text("".join(json.dumps({"task_id": task, "solution": text}) + "\n" for task, text in programs_of.items()))
    command = [python, "-m", "evalplus.evaluate", "--dataset", dataset, "--samples", str(samples), "--parallel", str(len(os.sched_getaffinity(0)))]
    command += ["--min_time_limit", "30", "--gt_time_limit_factor", "10"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {variable: str(problems), "HOME": str(folder)}
    ended = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    results = folder / "samples_eval_results.json"
    if not results.exists():
        raise SnowError(f"evalplus ended with {ended.returncode} and no results: {ended.stderr.strip()[-500:]}")
    found = json.loads(results.read_text())["eval"]
    return {task: (one[0]["base_status"] == "pass", one[0]["base_status"] == one[0]["plus_status"] == "pass") for task, one in found.items()}


def main() -> int:
    """Judge, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("benchmark", choices=NAMES)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--problems", type=int)
    arguments = parser.parse_args()
    problems = {problem.task_id: problem for problem in load(arguments.benchmark, arguments.source)[: arguments.problems]}
    if arguments.journal:
        ours: dict[str, Verdict] = {task: row for (task, sample), row in read_journal(arguments.journal).items() if sample == 0 and task in problems}
        if not ours:
            raise SnowError(f"{arguments.journal} has no verdict on {arguments.benchmark}; name that benchmark's file in an evaluate artefact")
    else:
        settings = EvaluateSettings.model_validate({"sandbox": {"timeout": 600, "memory": "4GiB"}})
        asked = [(problem, 0, Completion(programs.solution(problem), "stop")) for problem in problems.values()]
        ours = {row["task_id"]: row for row in judge(asked, settings)}
    texts = {task: programs.whole(problems[task], row["completion"]) for task, row in ours.items()}
    with tempfile.TemporaryDirectory() as folder:
        other = theirs(arguments.python, arguments.benchmark, arguments.source, texts, Path(folder))
    apart = [task for task, row in ours.items() if (row["base_passed"], row["passed"]) != other[task]]
    mine = sum(row["base_passed"] for row in ours.values()), sum(row["passed"] for row in ours.values())
    said = sum(base for base, _ in other.values()), sum(whole for _, whole in other.values())
    print(f"{arguments.benchmark}: {len(ours)} problems, {len(ours) - len(apart)} agree; (base, all tests) passed: ours {mine}, evalplus {said}")
    for task in apart:
        print(f"  {task}: ours base {ours[task]['base_passed']}, all {ours[task]['passed']} ({ours[task]['reason']}); evalplus {other[task]}")
    return 1 if apart else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnowError as error:
        sys.exit(f"error: {error}")
