"""What a finished run is compared by: metrics that move at small scale, read off its artefacts.

    bits/<set>[/<language>]   bits per byte of canonical solutions (a benchmark's) or of held-out files; lower is better
    validation/<tier>         training's validation loss at the end, nats a token: only comparable under one tokenizer; lower is better
    validation/gap            that of held-out code less that of the high-quality tier: over-fitting to it (signatures/overfitting.py)
    pass@1/<set>              share of problems solved; left out where every run has 0
    annotator/<set>           ROC-AUC of the annotator that the run's tiers owe to: a benchmark's solutions against random files (``annotators``)

Where the evaluation wrote a row a text (bits.jsonl) or a problem (the verdicts), these are the items that bootstraps draw; where it
wrote a number only, its chance is that of seeds alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from megatron_snow.ablation.statistics import Measured
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.recipe.stage import Road

Items = dict[str, tuple[float, float]]
"""Item -> (amount, size): bits and bytes of a text, passes and tries of a problem; a number by itself is ("", (number, 1))."""


@dataclass
class RunMetrics:
    """The metrics of one run."""

    items: dict[str, Items] = field(default_factory=dict)

    def add(self, metric: str, item: str, amount: float, size: float = 1.0) -> None:
        """Add to an item's amount and size; a second sample of a problem counts with the first."""
        before = self.items.setdefault(metric, {}).get(item, (0.0, 0.0))
        self.items[metric][item] = (before[0] + amount, before[1] + size)


def lower_is_better(metric: str) -> bool:
    """Of a metric's name."""
    return metric.startswith(("bits/", "validation/"))


def unit(metric: str) -> str:
    """What a metric counts, for axes and tables."""
    return {"bits": "bits per byte", "validation": "nats a token", "pass@1": "share solved", "annotator": "ROC-AUC"}[metric.partition("/")[0]]


def note(metric: str) -> str:
    """What a reader must know of a metric beside its name; empty for most."""
    if not metric.startswith("annotator/"):
        return ""
    return (
        f"Of the annotator that chose what the arm trains on: {metric.partition('/')[2]}'s solutions against random Python files of held-out repositories, "
        "the same for all arms (the paper's figure 2). An arm that no annotator chose for has none. Seeds that share tiers share an annotator: the interval "
        "is then that of solutions and files."
    )


def read_run(road: Road) -> RunMetrics:
    """The metrics of a finished run. Raises SnowError where a file of its artefacts is damaged."""
    found = RunMetrics()
    evaluation = next(stage for stage in reversed(road.stages.values()) if stage.arrow == "evaluate")
    training = next(stage for stage in reversed(road.stages.values()) if stage.arrow == "train")
    folder = road.folder(evaluation.name)
    _bits(found, folder)
    _passes(found, folder)
    losses = {tier: loss for tier, loss in _json(road.folder(training.name) / "summary.json")["validation"].items() if loss is not None}
    for tier, loss in losses.items():
        found.add(f"validation/{tier}", "", loss)
    if {"heldout", "high_quality"} <= losses.keys():
        found.add("validation/gap", "", losses["heldout"] - losses["high_quality"])
    return found


def _bits(found: RunMetrics, folder: Path) -> None:
    """Rows of bits.jsonl by set, and by language where a set has several; the numbers of results.json where an older artefact has no rows."""
    rows = list(_rows(folder / "bits.jsonl"))
    languages: dict[str, set[str]] = {}
    for row in rows:
        languages.setdefault(row["set"], set()).add(row["language"])
    for row in rows:
        found.add(f"bits/{row['set']}", row["id"], row["bits"], row["bytes"])
        if len(languages[row["set"]]) > 1:
            found.add(f"bits/{row['set']}/{row['language']}", row["id"], row["bits"], row["bytes"])
    if not rows:
        for path, value in _numbers(_json(folder / "results.json")["bits_per_byte"]):
            found.add("/".join(("bits", *path)).removesuffix("/all"), "", value)


def _passes(found: RunMetrics, folder: Path) -> None:
    """Every file of verdicts: rows with a task and whether it passed."""
    for path in sorted(folder.glob("*.jsonl")):
        for row in _rows(path):
            if "task_id" not in row or "passed" not in row:
                break
            found.add(f"pass@1/{path.stem}", row["task_id"], float(row["passed"]))


def _numbers(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, (*path, str(key)))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield path, float(tree)


def _json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SnowError(f"{path} cannot be read ({error}): delete {path.parent} and run again") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SnowError(f"{path}, line {number} is damaged ({error}): delete {path.parent} and run again") from error


def assemble(runs: Mapping[tuple[str, int], RunMetrics]) -> dict[str, dict[str, Measured]]:
    """Metric -> arm -> what was measured of it, over the seeds that have it and the items that all those have. Metrics that are 0 in every run are left out."""
    metrics = dict.fromkeys(metric for run in runs.values() for metric in run.items)
    arms = dict.fromkeys(arm for arm, _ in runs)
    found: dict[str, dict[str, Measured]] = {}
    for metric in metrics:
        measured = {
            arm: one
            for arm in arms
            if (one := _measured({seed: run.items[metric] for (name, seed), run in runs.items() if name == arm and metric in run.items}))
        }
        if any(one.amounts.any() for one in measured.values()):
            found[metric] = measured
    return found


def _measured(seeds: Mapping[int, Items]) -> Measured | None:
    """One arm's runs side by side."""
    import numpy as np

    if not seeds:
        return None
    first, *others = seeds.values()
    items = [item for item in first if all(item in other for other in others)]
    if not items:
        return None
    table = np.array([[run[item] for item in items] for run in seeds.values()], dtype=np.float64)
    if not table[..., 1].sum(1).all():
        return None
    return Measured(tuple(seeds), tuple(items), table[..., 0], table[..., 1])
