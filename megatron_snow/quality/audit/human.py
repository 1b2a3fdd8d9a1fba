"""Agreement with people: a CSV of paths and labels."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.language import detect
from megatron_snow.quality.audit.intervals import auc, estimate, spearman
from megatron_snow.quality.calibration import reliability

_FEWEST = 10  # labelled files (ours: fewer say nothing about ranks)


@dataclass(frozen=True)
class Judged:
    """Files that people judged."""

    names: list[str]
    texts: list[str]
    languages: list[str]
    groups: list[str]
    """Repositories; a file from outside the corpus is one by itself."""
    labels: np.ndarray
    """float64"""


def read_labels(path: Path, tiers: Iterable[Path]) -> Judged:
    """The files that the CSV names, looked for in the tiers (by id, or repository/path), then on disk, beside the CSV first.

    Raises SnowError where the CSV is missing or lacks a column, a label is no number, a file cannot be found, or there are too few.
    """
    wanted = _rows(path)
    found: dict[str, Document] = {}
    for tier in tiers:
        for document in read_documents(tier):
            for name in (document["id"], f"{document['repository']}/{document['path']}"):
                if name in wanted and name not in found:
                    found[name] = document
    judged = Judged([], [], [], [], np.array([wanted[name] for name in wanted], dtype=np.float64))
    for name in wanted:
        known = found.get(name)
        if known is not None:
            text, language, group = known["text"], known["language"], known["repository"]
        else:
            text = _file(name, path)
            language, group = detect(name, text.encode()) or "unknown", name
        for values, value in zip((judged.names, judged.texts, judged.languages, judged.groups), (name, text, language, group), strict=True):
            values.append(value)
    return judged


def _rows(path: Path) -> dict[str, float]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            has = reader.fieldnames or []
            if missing := [name for name in ("path", "label") if name not in has]:
                raise SnowError(f"{path} has no column {missing[0]!r} (it has {', '.join(has) or 'none'}); the first line must read path,label")
            rows: dict[str, float] = {}
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                try:
                    label = float(row["label"])
                except (TypeError, ValueError):
                    raise SnowError(f"{where}: the label is {row['label']!r}, not a number; give 0 and 1, or points on a scale") from None
                if not np.isfinite(label) or not row["path"]:
                    raise SnowError(f"{where}: path {row['path']!r} with label {row['label']!r}: both are needed, the label finite")
                if rows.setdefault(row["path"], label) != label:
                    raise SnowError(f"{where}: {row['path']} has two labels, {rows[row['path']]:g} and {label:g}; give their mean, once")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SnowError(f"cannot read the labels in {path} ({error}); give a CSV in UTF-8 with the columns path and label") from error
    if len(rows) < _FEWEST:
        raise SnowError(f"{path} labels {len(rows)} files; ranks need {_FEWEST} at least, and an interval worth having some hundreds")
    if len(set(rows.values())) == 1:
        raise SnowError(f"{path}: all {len(rows)} labels are {next(iter(rows.values())):g}; agreement needs files that differ")
    return rows


def _file(name: str, labels: Path) -> str:
    for candidate in (labels.parent / name, Path(name)):
        try:
            return candidate.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            continue
    raise SnowError(f"{labels}: there is no {name!r}, neither in the corpus (by id or repository/path) nor as a file; correct the path")


def agreement(judged: Judged, scores: np.ndarray, probability: np.ndarray | None, resamples: int, seed: int) -> dict[str, Any]:
    """``files``, ``spearman`` and, where there are two labels, ``auc``: value and interval each; ``calibration`` of the probability
    (of the score where nothing is calibrated) against the upper of two labels, or the upper half of a scale."""
    labels = judged.labels
    result: dict[str, Any] = {"files": len(labels), "spearman": estimate(spearman(scores, labels), judged.groups, resamples, seed)}
    middle = (labels.min() + labels.max()) / 2
    good = labels > middle
    result["good"] = {"files": int(good.sum()), "label_above": float(middle)}
    result["auc"] = estimate(auc(good, scores), judged.groups, resamples, seed) if 0 < good.sum() < len(good) else None
    shown = np.clip(scores if probability is None else probability, 0, 1)
    result["calibration"] = reliability(shown, good)
    return result
