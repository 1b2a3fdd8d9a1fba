"""Trivial programs a second through the sandbox, beside an interpreter with no sandbox at all, and bubblewrap where it is installed.

    python bench/sandbox.py [--programs 100] [--repeat 3] [--workers 2]

Ways are run in turn, medians are printed. Gate: 50 a second on 2 cores.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from megatron_snow.sandbox import SandboxSettings, run, run_many
from megatron_snow.sandbox.python import python as installation
from megatron_snow.sandbox.runner import readable

PROGRAM = "assert 1 + 1 == 2"
LIMITS = SandboxSettings()


def server(count: int, workers: int) -> None:
    assert all(result.status == "passed" for result in run_many([PROGRAM] * count, workers, LIMITS, to_the_end=True))


def launcher(count: int, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        assert all(result.status == "passed" for result in pool.map(lambda text: run(text, LIMITS, to_the_end=True), [PROGRAM] * count))


def _commands(command: list[str]) -> Callable[[int, int], None]:
    def way(count: int, workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda _: subprocess.run(command, check=True, env={}), range(count)))

    return way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    python = [installation().executable, "-s", "-P", "-S", "-B", "-c", PROGRAM]
    ways = {"fork server (run_many)": server, "one launcher a program (run)": launcher, "python -c, no sandbox": _commands(python)}
    if bubblewrap := shutil.which("bwrap"):
        shown = [word for path in readable(installation()) if path.startswith("/") for word in ("--ro-bind-try", path, path)]
        ways["bubblewrap, no limits"] = _commands([bubblewrap, "--unshare-all", "--die-with-parent", "--tmpfs", "/tmp", *shown, *python])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, way in ways.items():
            start = time.monotonic()
            way(args.programs, args.workers)
            rates[name].append(args.programs / (time.monotonic() - start))
    for name, found in rates.items():
        print(f"{name:32} {statistics.median(found):7.1f} programs/s   (lowest {min(found):.1f}, highest {max(found):.1f})")
    ours, gate = statistics.median(rates["fork server (run_many)"]), 50
    each = statistics.median(rates["one launcher a program (run)"])
    print(f"gate {gate}/s: {'met' if ours >= gate else 'MISSED'}, {ours / gate:.1f}x; {ours / each:.1f}x a launcher each")
    sys.exit(0 if ours >= gate else 1)


if __name__ == "__main__":
    main()
