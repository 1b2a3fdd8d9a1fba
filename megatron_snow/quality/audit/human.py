"""People's judgement, a CSV of paths and labels: read for an audit and for an annotator that they teach; and an annotator's agreement with it."""

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
    places: list[tuple[Path, str] | None]
    """Tier and id of the document; None for a file from outside the corpus."""
    labels: np.ndarray
    """float64"""

    @property
    def high(self) -> np.ndarray:
        """bool: the label is the upper of two, or in the upper half of the scale that was used."""
        return self.labels > self.middle

    @property
    def middle(self) -> float:
        """Between the lowest and the highest label."""
        return float(self.labels.min() + self.labels.max()) / 2


def read_labels(path: Path, tiers: Iterable[Path]) -> Judged:
    """The files that the CSV names, looked for in the tiers (by id, or repository/path), then on disk, beside the CSV first.

    Raises SnowError where the CSV is missing or lacks a column, a label is no number, a file cannot be found, or there are too few.
    """
    wanted = _rows(path)
    found: dict[str, tuple[Path, Document]] = {}
    for tier in tiers:
        for document in read_documents(tier):
            for name in (document["id"], f"{document['repository']}/{document['path']}"):
                if name in wanted and name not in found:
                    found[name] = tier, document
    judged = Judged([], [], [], [], [], np.array([wanted[name] for name in wanted], dtype=np.float64))
    for name in wanted:
        known = found.get(name)
        judged.names.append(name)
        if known is not None:
            tier, document = known
            text, language, group = document["text"], document["language"], document["repository"]
            judged.places.append((tier, document["id"]))
        else:
            text = _file(name, path)
            language, group = detect(name, text.encode()) or "unknown", name
            judged.places.append(None)
        for values, value in zip((judged.texts, judged.languages, judged.groups), (text, language, group), strict=True):
            values.append(value)
    return judged


def files_named(path: Path) -> list[Path]:
    """The CSV and what it names on disk, where it can be read: what an annotator's key must know of. Raises nothing."""
    try:
        names = _rows(path)
    except SnowError:
        return [path]
    return [path, *(candidate for name in names for candidate in _candidates(name, path) if candidate.is_file())]


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


def _candidates(name: str, labels: Path) -> tuple[Path, Path]:
    return labels.parent / name, Path(name)


def _file(name: str, labels: Path) -> str:
    for candidate in _candidates(name, labels):
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
    good = judged.high
    result["good"] = {"files": int(good.sum()), "label_above": judged.middle}
    result["auc"] = estimate(auc(good, scores), judged.groups, resamples, seed) if 0 < good.sum() < len(good) else None
    known = np.ones(len(scores), dtype=bool) if probability is None else ~np.isnan(probability)
    shown = scores if probability is None or not known.any() else probability
    known |= not known.any()
    result["calibration"] = reliability(np.clip(shown[known], 0, 1), good[known])
    return result
