"""Training the annotator: split by repository, heads, rounds of hard negatives, calibration, and how good it is on what it has not seen.

Everything here works on vectors that are computed already, takes seconds, and depends on them and the seed alone.

The held-out files choose the epoch and fit the calibration as well as measuring: twenty epochs are few choices, and the
calibration is judged by cross-fitting, so that little of what is reported is owed to that. Rounds and languages' own heads do not look at them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.quality.calibration import Calibrator, cross_fitted, fit, reliability
from megatron_snow.quality.head import LinearHead, Trained, train_head
from megatron_snow.quality.heads import SHARED, Heads
from megatron_snow.quality.labelled import NEGATIVE, POOL, Example, split_by_repository, stands_for
from megatron_snow.quality.scoring import Labelled
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.quality.validation import validate

_FEWEST = 10  # held-out files of each class for a language's own calibration (ours: two numbers are fitted)


@dataclass(frozen=True)
class Labels:
    """The labelled files as arrays, a row each."""

    examples: list[Example]
    label: np.ndarray
    """float64 in [0, 1]"""
    positive: np.ndarray
    """bool: in the class of good files, or in the upper half of the labels' scale."""
    source: np.ndarray
    """``Example.source``"""
    held_out: np.ndarray
    """bool: in a repository that no training file is from. Files of the pool never are."""
    training: np.ndarray
    """bool: labelled and not held out."""

    @property
    def languages(self) -> np.ndarray:
        """Of each file."""
        return np.array([example.language for example in self.examples], dtype=object)


def label_files(examples: list[Example], settings: AnnotateSettings, seed: int) -> Labels:
    """Labels and the split by repository. Raises SnowError where labels are all alike or no split has both classes on both sides."""
    label = np.array([example.label for example in examples], dtype=np.float64)
    source = np.array([example.source for example in examples], dtype=np.int64)
    labelled = source != POOL
    if settings.labels and len(set(label[labelled].tolist())) < 2:
        what = f"all {labelled.sum()} labels are alike" if labelled.any() else "there is no label"
        raise SnowError(f"annotate.labels: {what} in {settings.labels.path}: a regression has nothing to learn; label more files")
    middle = 0.5
    if settings.labels and not label.min() < middle <= label.max():
        middle = float(label.min() + label.max()) / 2
    positive = label >= middle
    repositories = np.array([example.repository for example in examples], dtype=object)
    held_out = np.zeros(len(examples), dtype=bool)
    held_out[labelled] = split_by_repository(repositories[labelled].tolist(), positive[labelled], settings.head.validation, seed)
    return Labels(examples, label, positive, source, held_out, labelled & ~held_out)


def train_annotator(labelled: Labelled, settings: AnnotateSettings, seed: int) -> tuple[Heads, Labels, dict[str, Any]]:
    """The heads; which file was on which side; and what the summary says of training and validation.

    Raises SnowError where the labelled files cannot be split or are all of one label.
    """
    labels = label_files(labelled.examples, settings, seed)
    trainer = _Trainer(labelled, labels, settings, seed)
    training = labels.training.copy()
    trained = trainer.fit(training)
    rounds = [{"round": 0, "added": 0, "auc": trainer.auc(trained.head)}]
    if settings.hard_negatives:
        candidates = trainer.candidates()
        for number in range(1, settings.hard_negatives.rounds + 1):
            hardest = trainer.hardest(trained.head, candidates & ~training, settings.hard_negatives.add)
            training[hardest] = True
            trained = trainer.fit(training)
            rounds.append({"round": number, "added": len(hardest), "auc": trainer.auc(trained.head)})
            say(f"  hard negatives, round {number}: {len(hardest)} files more, ROC-AUC {rounds[-1]['auc']:.3f}")
    own = trainer.own_heads(training)
    heads = Heads({SHARED: trained.head, **own}, trainer.calibrators(trained.head, own))
    found = trainer.judge(heads)
    files = f"{found['positives']} positives and {found['negatives']} negatives of unseen repositories"
    say(f"  annotator: ROC-AUC {found['auc']:.3f} +- {found['standard_error']:.3f} on {files}")
    task = trained.head.task
    summary = {
        "head": {"task": task, "heads": list(heads.heads), "calibration": settings.head.calibration if heads.calibrators else "none"},
        "labelled": _sources(labels, settings, training),
        "losses": [round(loss, 6) for loss in trained.losses],
        "validation_losses": [round(loss, 6) for loss in trained.held_out_losses],
        "best_epoch": trained.best_epoch,
        "rounds": rounds,
        "validation": found,
    }
    return heads, labels, summary


class _Trainer:
    """The vectors with their labels, as the steps above need them."""

    def __init__(self, labelled: Labelled, labels: Labels, settings: AnnotateSettings, seed: int) -> None:
        self._labelled, self._labels, self._settings, self._seed = labelled, labels, settings, seed
        self._task: Literal["classification", "regression"] = "regression" if settings.labels else "classification"

    def fit(self, training: np.ndarray, held_out: np.ndarray | None = None) -> Trained:
        watched = self._labels.held_out if held_out is None else held_out
        parts = [(*self._labelled.part(mask), self._labels.label[mask]) for mask in (training, watched)]
        return train_head(*parts[0], self._settings.head, self._seed, parts[1] if watched.any() else None, self._task)

    def auc(self, head: LinearHead) -> float:
        from sklearn.metrics import roc_auc_score

        mask = self._labels.held_out
        return float(roc_auc_score(self._labels.positive[mask], head.file_scores(*self._labelled.part(mask))))

    def candidates(self) -> np.ndarray:
        """The pool, but for files of repositories that are held out."""
        closed = {example.repository for example, out in zip(self._labels.examples, self._labels.held_out, strict=True) if out}
        return np.array([example.source == POOL and example.repository not in closed for example in self._labels.examples])

    def hardest(self, head: LinearHead, among: np.ndarray, count: int) -> list[int]:
        """Indices of the files with the highest scores, ties by name."""
        indices = np.flatnonzero(among)
        scores = head.file_scores(*self._labelled.part(among))
        order = sorted(range(len(indices)), key=lambda i: (-scores[i], self._labels.examples[indices[i]].name))
        return [int(indices[i]) for i in order[:count]]

    def own_heads(self, training: np.ndarray) -> dict[str, LinearHead]:
        least, positive, languages = self._settings.head.own, self._labels.positive, self._labels.languages
        if least is None:
            return {}
        found = {}
        for language in sorted(set(languages[training])):
            part = training & (languages == language)
            if min(int((part & positive).sum()), int((part & ~positive).sum())) >= least:
                found[language] = self.fit(part, self._labels.held_out & (languages == language)).head
        if not found:
            say(f"  no language has {least} training files of each class (annotate.head.own): one head for all")
        return found

    def calibrators(self, shared: LinearHead, own: dict[str, LinearHead]) -> dict[str, Calibrator]:
        kind = self._settings.head.calibration
        if kind == "none" or self._task == "regression":
            return {}
        result = {}
        for name, head in {SHARED: shared, **own}.items():
            mask = self._labels.held_out if name == SHARED else self._labels.held_out & (self._labels.languages == name)
            positive = self._labels.positive[mask]
            if name == SHARED or min(positive.sum(), (~positive).sum()) >= _FEWEST:
                result[name] = fit(kind, head.file_scores(*self._labelled.part(mask)), positive)
        if missing := [name for name in own if name not in result]:
            say(f"  fewer than {_FEWEST} held-out files of a class: scores in {', '.join(missing)} get no probability")
        return result

    def judge(self, heads: Heads) -> dict[str, Any]:
        """What the summary says under ``validation``."""
        labels, mask = self._labels, self._labels.held_out
        positive, languages = labels.positive[mask], labels.languages[mask].tolist()
        scores = heads.file_scores(*self._labelled.part(mask), languages)
        found = validate(positive, scores, languages)
        if self._task == "regression":
            from scipy.stats import spearmanr

            low, high = self._settings.labels.scale if self._settings.labels else (0.0, 1.0)
            error = float(np.sqrt(np.mean((scores - labels.label[mask]) ** 2)) * (high - low))
            return {**found, "spearman": float(spearmanr(scores, labels.label[mask]).statistic), "rmse": error}
        if not heads.calibrators:
            return found
        judged, crossed = self._crossed(heads, scores, languages)
        known = ~np.isnan(judged)
        return {**found, "calibration": {**reliability(judged[known], positive[known]), "cross_fitted": crossed}} if known.any() else found

    def _crossed(self, heads: Heads, scores: np.ndarray, languages: list[str]) -> tuple[np.ndarray, bool]:
        """Probabilities of the held-out files, NaN where their head has no calibrator, each by a calibrator fitted as its head's is, but without the
        file's repository; and whether that could be done for all (else ``heads.probability`` stands in)."""
        labels, used = self._labels, heads.used_for(languages)
        rows = np.flatnonzero(labels.held_out)
        repositories = [labels.examples[row].repository for row in rows]
        result, whole = heads.probability(scores, languages), True
        assert result is not None
        for name in heads.calibrators:
            judged = used == name
            fitted = np.ones(len(rows), dtype=bool) if name == SHARED else judged  # what ``calibrators`` fits on
            mask = np.zeros(len(labels.held_out), dtype=bool)
            mask[rows[fitted]] = True
            groups = [repository for repository, one in zip(repositories, fitted, strict=True) if one]
            own = heads.heads[name].file_scores(*self._labelled.part(mask))
            found = cross_fitted(self._settings.head.calibration, own, labels.positive[mask], groups, self._seed) if judged.any() else None  # type: ignore[arg-type]
            if found is not None:
                result[judged] = found[judged[fitted]]
            whole &= found is not None or not judged.any()
        return result, whole


def _sources(labels: Labels, settings: AnnotateSettings, training: np.ndarray) -> dict[str, Any]:
    drawn = Counter(labels.source.tolist())
    if settings.labels:
        asked = settings.labels
        sources = [{"kind": "labelled", "stands_for": f"files with a label each, from {asked.path}", "asked": asked.count, "found": len(labels.examples)}]
    else:
        sources = [
            {"kind": source.kind, "stands_for": stands_for(source), "asked": source.count, "found": drawn[i]} for i, source in enumerate(settings.positives)
        ]
        random = "random files of the standard tier, as in the paper"
        sources.append({"kind": "negatives", "stands_for": random, "asked": settings.negatives, "found": drawn[NEGATIVE]})
    if settings.hard_negatives:
        hard = settings.hard_negatives
        added = int((training & (labels.source == POOL)).sum())
        what = "random files of the standard tier that the annotator ranked highest in earlier rounds"
        sources.append({"kind": "hard_negatives", "stands_for": what, "asked": hard.rounds * hard.add, "found": added})
    sides: dict[str, Any] = {"sources": sources}
    for name, side in (("training", training), ("validation", labels.held_out)):
        repositories = {example.repository for example, here in zip(labels.examples, side, strict=True) if here}
        good = int(labels.positive[side].sum())
        sides[name] = {"positives": good, "negatives": int(side.sum()) - good, "repositories": len(repositories)}
    return sides
