"""How good is the annotator: ROC-AUC on repositories it has not seen, and what its scores look like.

The interval is Hanley and McNeil's (Radiology 143, 1982), which takes files as independent; files of one repository are not
quite, so it is somewhat too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ROC_POINTS = 200  # kept of a curve (ours: more than a plot can show)
BINS = 20  # of the score histogram (ours)


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Hanley and McNeil's standard error of a ROC-AUC."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (negatives - 1) * (two - auc**2)
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def roc(positive: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """``auc``, ``standard_error``, ``positives``, ``negatives`` (file counts) and ``points`` [false positive rate, true positive rate]."""
    from sklearn.metrics import roc_auc_score, roc_curve

    auc, count = float(roc_auc_score(positive, scores)), int(positive.sum())
    false_rate, true_rate, _ = roc_curve(positive, scores)
    kept = np.unique(np.linspace(0, len(false_rate) - 1, min(ROC_POINTS, len(false_rate))).round().astype(int))
    points = [[round(float(false_rate[i]), 5), round(float(true_rate[i]), 5)] for i in kept]
    negatives = len(positive) - count
    return {"auc": auc, "standard_error": auc_standard_error(auc, count, negatives), "positives": count, "negatives": negatives, "points": points}


def validate(positive: np.ndarray, scores: np.ndarray, languages: Sequence[str]) -> dict[str, Any]:
    """``roc`` over all validation files, and without points for each language that has both classes (``languages``).

    ``within_languages`` is the ROC-AUC over pairs of the same language only: selection is per language, so telling languages
    apart earns nothing there. None where no language has both classes.
    """
    named = np.asarray(languages)
    by_language = {}
    for language in sorted(set(languages)):
        part = named == language
        if 0 < positive[part].sum() < part.sum():
            found = roc(positive[part], scores[part])
            found.pop("points")
            by_language[language] = found
    pairs = {language: found["positives"] * found["negatives"] for language, found in by_language.items()}
    within = sum(by_language[language]["auc"] * count for language, count in pairs.items()) / sum(pairs.values()) if pairs else None
    return {**roc(positive, scores), "within_languages": within, "languages": by_language}


def histogram(scores: np.ndarray, languages: np.ndarray) -> dict[str, Any]:
    """``edges`` [BINS + 1] over [0, 1], and for each language the number of files in each bin; what a regression puts outside counts at the ends."""
    edges = np.linspace(0, 1, BINS + 1)
    counts = {str(language): np.histogram(np.clip(scores[languages == language], 0, 1), edges)[0].tolist() for language in np.unique(languages)}
    return {"edges": edges.round(6).tolist(), "languages": counts}
