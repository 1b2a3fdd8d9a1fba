"""A study's result: results.json, results.csv, results.md and a plot a metric, from whatever runs are finished."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_snow.ablation import alarms, annotators, plot, tables
from megatron_snow.ablation.arms import Opened
from megatron_snow.ablation.metrics import RunMetrics, assemble, lower_is_better, note, read_run, unit
from megatron_snow.ablation.settings import Study
from megatron_snow.ablation.statistics import Measured, difference, estimate, holm, verdict
from megatron_snow.ablation.store import Roads
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import read_manifest, versions
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.recipe.stage import Road

FORMAT = 2  # 1 had no notes


def write_results(opened: Opened, roads: Roads) -> Path | None:
    """Write ``<out>/results/``; signatures.json (``alarms``) beside; returns results.md, or None where no run is finished.

    Raises SnowError where an artefact is damaged.

    results.json::

        {"format": 2, "study": name, "title": text, "question": text, "scale": name, "tokens": n, "seeds": [n], "seed_changes": "train",
         "arms": {arm: {"title": text, "paper": text, "parameters": n, "phases": text, "seconds": of training, a run}},
         "runs": {"finished": ["alpha/seed-1", ...], "missing": [...]}, "notes": [text],
         "metrics": {metric: {"unit": text, "lower_is_better": true, "note": text,
             "arms": {arm: {"value": x, "low": x, "high": x, "by_seed": {seed: x}, "seeds": n, "items": n, ...}},
             "comparisons": [{"arm": a, "against": b, "value": x, "low": x, "high": x, "p": x, "holm": x, "verdict": text, ...}]}},
         "versions": {...}}
    """
    runs: dict[tuple[str, int], RunMetrics] = {}
    finished: dict[tuple[str, int], Road] = {}
    missing: list[str] = []
    notes: list[str] = []
    seconds: dict[str, list[float]] = {}
    for one in opened.units:
        try:
            road = roads.road(one.recipe)
        except SnowError:  # a source is gone: what stood on it cannot be told from what would be made now
            missing.append(one.name)
            continue
        statuses = road.statuses().values()
        if lost := next((status.why for status in statuses if status.state == "damaged"), None):
            raise SnowError(lost)
        if any(status.state != "done" for status in statuses):
            missing.append(one.name)
            continue
        runs[one.arm, one.seed], finished[one.arm, one.seed] = read_run(road), road
        trained = [manifest for stage in road.stages.values() if stage.arrow == "train" and (manifest := read_manifest(road.folder(stage.name)))]
        seconds.setdefault(one.arm, []).append(sum(manifest.seconds for manifest in trained))
        if opened.study.equal_tokens and (seen := sum(manifest.counts["tokens"] for manifest in trained)) != opened.scale.tokens:
            notes.append(f"{one.name} was trained on {seen:,} tokens, not on the scale's {opened.scale.tokens:,}: its differences may be those of tokens.")
    if not runs:
        return None
    study = opened.study
    if _asks_annotators(study):
        notes += annotators.add(runs, opened.units, finished, roads.out)
    tree: dict[str, Any] = {
        "format": FORMAT, "study": study.name, "title": study.title, "question": study.question, "scale": opened.scale_name, "scale_title": opened.scale.title,
        "tokens": opened.scale.tokens, "seeds": list(study.seeds), "seed_changes": study.vary,
        "arms": tables.describe_arms(opened, {arm: sum(found) / len(found) for arm, found in seconds.items()}),
        "runs": {"finished": [f"{arm}/seed-{seed}" for arm, seed in runs], "missing": missing}, "notes": notes,
        "metrics": {metric: _metric(metric, measured, study) for metric, measured in assemble(runs).items() if _wanted(metric, study)},
        "versions": versions(),
    }  # fmt: skip
    folder = roads.out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "results.json", json.dumps(tree, indent=1, ensure_ascii=False).encode())
    write_atomically(folder / "results.csv", _csv(tree["metrics"]).encode())
    plots = {metric: f"{slug(metric)}.svg" for metric in tree["metrics"]}
    for metric, name in plots.items():
        write_atomically(folder / name, plot.draw(metric, tree["metrics"][metric], {arm: about["title"] for arm, about in tree["arms"].items()}).encode())
    found = alarms.signatures(finished)
    write_atomically(folder / "signatures.json", json.dumps(found, indent=1, ensure_ascii=False).encode())
    write_atomically(folder / "results.md", tables.markdown(tree, plots, alarms.lines(found)).encode())
    return folder / "results.md"


def _wanted(metric: str, study: Study) -> bool:
    return not study.metrics or any(metric == name or metric.startswith(name + "/") for name in study.metrics)


def _asks_annotators(study: Study) -> bool:
    return not study.metrics or any(name.partition("/")[0] == "annotator" for name in study.metrics)


def _metric(metric: str, measured: Mapping[str, Measured], study: Study) -> dict[str, Any]:
    arms = {
        arm: {**_rounded(asdict(estimate(one, study.resamples))), "by_seed": dict(zip(map(str, one.seeds), map(_round, one.by_seed), strict=True))}
        for arm, one in measured.items()
    }
    for found in arms.values():
        del found["p"]  # that a metric is not 0 is no finding
    pairs = [(a, b, difference(measured[a], measured[b], study.resamples)) for a, b in study.pairs if a in measured and b in measured]
    known = [(a, b, found) for a, b, found in pairs if found is not None]
    adjusted = holm([found.p for _, _, found in known])
    lower = lower_is_better(metric)
    comparisons = [
        {"arm": a, "against": b, **_rounded(asdict(found)), "holm": _round(p), "verdict": verdict(found, p, lower)}
        for (a, b, found), p in zip(known, adjusted, strict=True)
    ]
    return {"unit": unit(metric), "lower_is_better": lower, "note": note(metric), "arms": arms, "comparisons": comparisons}


def _rounded(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _round(value) if isinstance(value, float) else value for key, value in tree.items()}


def _round(value: float | None) -> float | None:
    """Six significant digits: beyond that a float's last bits would differ from machine to machine."""
    return None if value is None else float(f"{value:.6g}")


def _csv(metrics: Mapping[str, Any]) -> str:
    """One row an arm and one a comparison."""
    fields = ["metric", "unit", "kind", "arm", "against", "value", "low", "high", "p", "holm", "verdict", "seeds", "items", "error_seeds", "error_items"]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for metric, found in metrics.items():
        own = {"metric": metric, "unit": found["unit"]}
        writer.writerows({**own, "kind": "arm", "arm": arm, **values} for arm, values in found["arms"].items())
        writer.writerows({**own, "kind": "difference", **values} for values in found["comparisons"])
    return text.getvalue()


def slug(metric: str) -> str:
    """A file's name for a metric's plot: another one for C, C++ and C#."""
    return re.sub(r"[^A-Za-z0-9]+", "-", metric.replace("+", "plus").replace("#", "sharp")).strip("-").lower() or "metric"
