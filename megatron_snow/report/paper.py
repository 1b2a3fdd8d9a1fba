"""What the paper reports, to stand beside this run's numbers."""

from __future__ import annotations

BENCHMARKS = ("HumanEval+", "MBPP+", "EvoEval", "BigCodeBench")
"""Column heads of ``TABLE_2``: pass@1 in per cent, greedy, on 164, 378, 500 and 1140 problems."""

TABLE_2: dict[str, tuple[float, ...]] = {  # arXiv 2409.02326, table 2: Arctic-SnowCoder-1.3B
    "general (alpha, 500B tokens)": (14.0, 27.8, 7.4, 10.3),
    "continued (beta, + 50B)": (21.3, 34.7, 12.8, 12.3),
    "enhanced (final, + 5B)": (28.0, 42.9, 18.0, 19.4),
}
