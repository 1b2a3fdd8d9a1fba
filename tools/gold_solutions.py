#!/usr/bin/env python3
"""Run the canonical solutions of benchmarks through our own judging: every one should pass; what does not is printed with the reason.

python tools/gold_solutions.py [NAME ...] [--source FOLDER] [--timeout 300]
"""

from __future__ import annotations

import argparse
import sys
import time

from megatron_snow.benchmarks.sources import BENCHMARKS, load
from megatron_snow.evaluation.generation import Completion
from megatron_snow.evaluation.passing import judge
from megatron_snow.evaluation.programs import solution
from megatron_snow.evaluation.settings import EvaluateSettings


def main() -> None:
    """Judge and print; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[name for name in BENCHMARKS if name not in ("mbpp",) and not name.startswith("bigcodebench")])
    parser.add_argument("--source", default="")
    parser.add_argument("--timeout", type=float, default=300)
    arguments = parser.parse_args()
    settings = EvaluateSettings.model_validate({"sandbox": {"timeout": arguments.timeout, "memory": "4GiB"}})
    failed = 0
    for name in arguments.names:
        problems, start = load(name, arguments.source), time.monotonic()
        wrong = [row for row in judge([(problem, 0, Completion(solution(problem), "stop")) for problem in problems], settings) if not row["passed"]]
        print(
            f"{name}: {len(problems) - len(wrong)} of {len(problems)} pass, {time.monotonic() - start:.0f} s", *[f"{w['task_id']} {w['reason']}" for w in wrong]
        )
        failed += len(wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
