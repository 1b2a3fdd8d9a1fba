"""Time of a benchmark's greedy completion with a real model folder, judging apart. Goal: HumanEval with 135M parameters under 5 minutes on 2 cores.

    python bench/generation.py MODEL [--benchmark humaneval] [--problems 164] [--dtype bf16] [--batch-size 64] [--to FOLDER]

There is no peer beside it: what is timed is what `snow evaluate` does, so that a change can be weighed. ``--to`` keeps the journal (a row a sample).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.sources import load
from megatron_snow.evaluation import passing
from megatron_snow.evaluation.language_model import load as load_model
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.evaluation.writers import Sample, local


def processor() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main() -> None:
    """Complete, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--benchmark", default="humaneval")
    parser.add_argument("--source", default="")
    parser.add_argument("--problems", type=int)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    settings = EvaluateSettings.model_validate({"batch_size": arguments.batch_size, "dtype": arguments.dtype})
    lm = load_model(arguments.model, settings.dtype)
    problems = load(arguments.benchmark, arguments.source)[: arguments.problems]
    write, wall, cpu, tokens = local(lm, settings, seed=1), 0.0, 0.0, 0

    def timed(asked: Sequence[tuple[Problem, int]], done: Container[tuple[str, int]]) -> Iterator[list[Sample]]:
        nonlocal wall, cpu, tokens
        source = write(asked, done)
        while True:
            start, used = time.monotonic(), processor()
            written = next(source, None)
            wall, cpu = wall + time.monotonic() - start, cpu + processor() - used
            if written is None:
                return
            tokens += sum(map(len, lm.encode([completion.text for _, _, completion in written])))
            yield written

    with tempfile.TemporaryDirectory() as folder:
        to = arguments.to or Path(folder)
        to.mkdir(parents=True, exist_ok=True)
        start, used = time.monotonic(), processor()
        verdicts = passing.run(arguments.benchmark, problems, timed, settings, to / f"{arguments.benchmark.replace('/', '.')}.jsonl")
        total, total_cpu = time.monotonic() - start, processor() - used
    print(f"{arguments.benchmark}, {len(problems)} problems, {arguments.dtype}, batch {arguments.batch_size}: {sum(row['passed'] for row in verdicts)} pass")
    print(f"completion {wall:.0f} s of wall time, {cpu:.0f} s of processor time, {tokens} tokens kept; {Counter(row['finish'] for row in verdicts)}")
    print(f"with judging {total:.0f} s of wall time, {total_cpu:.0f} s of processor time")


if __name__ == "__main__":
    main()
