"""Scores as probabilities: Platt's sigmoid or isotonic regression, and how far predicted and observed shares are apart.

Both maps are monotone, so they change no ranking within a head; isotonic regression makes ties, which is why selection goes by the
score itself. Platt 1999 ("Probabilistic outputs for support vector machines"); Zadrozny and Elkan 2002 for the isotonic one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

BINS = 10  # of the calibration plot (the literature's usual number)
_EDGE = 1e-6  # scores are kept this far from 0 and 1 before their logit is taken


@dataclass(frozen=True)
class Calibrator:
    """``platt``: sigmoid(knots[0] * logit(score) + values[0]); ``isotonic``: straight lines between (knots, values)."""

    kind: Literal["platt", "isotonic"]
    knots: np.ndarray
    """float64 [1] or [n]"""
    values: np.ndarray
    """float64, as many"""

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, float64, of scores of any shape."""
        if self.kind == "platt":
            return 1 / (1 + np.exp(-(self.knots[0] * _logit(scores) + self.values[0])))
        return np.interp(scores, self.knots, self.values)


def fit(kind: Literal["platt", "isotonic"], scores: np.ndarray, positive: np.ndarray) -> Calibrator:
    """A calibrator from held-out scores (float [n]) and labels (bool [n], both classes)."""
    if kind == "platt":
        from sklearn.linear_model import LogisticRegression

        # Platt's targets keep a perfectly separated sample from an infinite slope: each file counts for its class and a little for the other.
        count = np.array([(~positive).sum(), positive.sum()], dtype=np.float64)
        target = np.where(positive, (count[1] + 1) / (count[1] + 2), 1 / (count[0] + 2))
        inputs = np.concatenate([_logit(scores)] * 2)[:, None]
        labels = np.repeat([True, False], len(scores))
        found = LogisticRegression(C=np.inf, max_iter=1000).fit(inputs, labels, sample_weight=np.concatenate([target, 1 - target]))
        return Calibrator(kind, found.coef_[0].astype(np.float64), found.intercept_.astype(np.float64))
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, positive.astype(np.float64))
    return Calibrator(kind, fitted.X_thresholds_.astype(np.float64), fitted.y_thresholds_.astype(np.float64))


def cross_fitted(kind: Literal["platt", "isotonic"], scores: np.ndarray, positive: np.ndarray, groups: Sequence[str], seed: int) -> np.ndarray | None:
    """Probabilities of files by calibrators fitted on the files of other groups: what the calibration is judged by.

    None where the groups (repositories) do not leave both classes on both sides of any cut.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(5, len(set(groups)), int(positive.sum()), int((~positive).sum()))
    if folds < 2:
        return None
    result = np.full(len(scores), np.nan)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed % 2**32)
    for rest, part in splitter.split(scores, positive, groups):
        if 0 < positive[rest].sum() < len(rest):
            result[part] = fit(kind, scores[rest], positive[rest])(scores[part])
    return None if np.isnan(result).any() else result


def reliability(probability: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """``brier`` (mean squared error), ``error`` (expected calibration error) and ``bins`` of equal width: from, to, files, predicted, observed."""
    edges = np.linspace(0, 1, BINS + 1)
    index = np.clip(np.digitize(probability, edges[1:-1]), 0, BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        part = index == number
        if part.any():
            predicted, observed = float(probability[part].mean()), float(positive[part].mean())
            error += abs(predicted - observed) * part.sum() / len(part)
            low, high = (round(float(edge), 3) for edge in edges[number : number + 2])
            bins.append({"from": low, "to": high, "files": int(part.sum()), "predicted": predicted, "observed": observed})
    return {"brier": float(((probability - positive) ** 2).mean()), "error": float(error), "bins": bins}


def _logit(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)
