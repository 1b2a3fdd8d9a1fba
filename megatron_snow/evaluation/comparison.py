"""Two models' results on the same benchmarks: which differences are more than noise (``statistics.compare``)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.evaluation.statistics import Difference, compare

SEED = 1  # of the bootstrap: the same two runs, the same answer


def read_results(path: Path) -> dict[str, Any]:
    """A results.json, or the one in a folder. Raises SnowError where it is none."""
    file = path / "results.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise SnowError(f"cannot read results from {file} ({error}); name the results.json of an evaluate artefact, or its folder") from error
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict):
        raise SnowError(f"{file} has no benchmarks; it is not the results.json of `snow evaluate`, or of an older version: evaluate again")
    return found


def _shares(path: Path, name: str, entry: dict[str, Any]) -> dict[str, float]:
    """Share of passing samples of each problem, from the journals beside results.json."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, list[bool]] = {}
    for member in entry.get("members", [name]):
        journal = folder / f"{member.replace('/', '.')}.jsonl"
        try:
            for row in map(json.loads, journal.read_text().splitlines()):
                found.setdefault(f"{member} {row['task_id']}", []).append(bool(row["passed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SnowError(f"cannot read the samples in {journal} ({error!r}); keep them beside results.json, or evaluate again") from error
    return {task: sum(passed) / len(passed) for task, passed in found.items()}


def differences(first: Path, second: Path) -> dict[str, Difference]:
    """Of each benchmark both have; second minus first. Raises SnowError where they share none, or not the same problems."""
    one, two = read_results(first)["benchmarks"], read_results(second)["benchmarks"]
    shared = [name for name in one if name in two]
    if not shared:
        have = f"{first} has {', '.join(one) or 'no benchmark'}, {second} has {', '.join(two) or 'none'}"
        raise SnowError(f"{have}: none in common; evaluate both on the same, with evaluate.samples 1 or more")
    found = {}
    for name in shared:
        ours, theirs = _shares(first, name, one[name]), _shares(second, name, two[name])
        if ours.keys() != theirs.keys():
            raise SnowError(f"{name}: {len(ours)} problems in {first}, {len(theirs)} in {second}, not the same ones; use one problem_limit and one file")
        found[name] = compare(list(ours.values()), [theirs[task] for task in ours], SEED)
    return found


def as_json(found: dict[str, Difference]) -> dict[str, Any]:
    """For ``--json``."""
    return {name: {**asdict(one), "beyond_noise": one.beyond_noise} for name, one in found.items()}


def lines(found: dict[str, Difference]) -> list[str]:
    """One sentence a benchmark."""
    said = []
    for name, one in found.items():
        change = one.difference
        test = "" if one.p_value is None else f", McNemar p {one.p_value:.3g}"
        word = ("second is better" if change.score > 0 else "first is better") if one.beyond_noise else "no difference beyond noise"
        said.append(
            f"{name:22} {100 * change.score:+6.1f} points, 95 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}; solved by the first alone "
            f"{one.only_first}, by the second alone {one.only_second}{test}: {word}"
        )
    return said
