"""One audit, from an annotate artefact and its corpus to ``validation.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.quality.audit.agreement import compare
from megatron_snow.quality.audit.edits import EDITS
from megatron_snow.quality.audit.human import agreement, read_labels
from megatron_snow.quality.audit.intervals import auc as auc_of
from megatron_snow.quality.audit.intervals import bootstrap, estimate
from megatron_snow.quality.audit.scorer import Scorer
from megatron_snow.quality.audit.seeds import ablate_seeds
from megatron_snow.quality.audit.settings import AuditSettings
from megatron_snow.quality.audit.solutions import PYTHON, rank
from megatron_snow.quality.audit.traits import correlations, explained
from megatron_snow.quality.audit.unseen import Drawing, Unseen
from megatron_snow.quality.scored import read_scores
from megatron_snow.quality.validation import roc

_FEWEST = 20  # unseen files for anything to be said (ours)
RESULT = "validation.json"


def audit(settings: AuditSettings, seed: int, artefact: Path, corpus: Path, work: Path) -> dict[str, Any]:
    """Write ``work/validation.json`` and return what it holds.

    - ``annotator``: folder's name, encoder, pooling, heads, task, counts of the run
    - ``unseen``: files, of which from new repositories
    - ``benchmarks``: name, language, solutions, random, new_repositories, auc, interval, points (ROC)
    - ``labels``: agreement with people (``human.agreement``), or null
    - ``seeds``: (``seeds.ablate_seeds``), or null
    - ``keys``: ``correlations`` (``traits``), ``explained`` (share of the ranks' variance between languages, repositories), ``edits``
    - ``agreement``: with other annotators (``agreement.compare``)

    Raises SnowError where the artefact or the corpus is none, or what is asked for cannot be had; checked before anything is scored.
    """
    drawing = Drawing(artefact, corpus, seed)
    problems = {one.name: one.load() for one in settings.benchmarks}
    judged = read_labels(settings.labels, drawing.tiers) if settings.labels else None
    ours = read_scores(artefact / "scores.parquet", ("id", "repository", "score", "selected"), "the annotator's scores")
    compared = [compare(ours, other, settings.resamples, seed) for other in settings.against]
    languages: list[str | None] = [None, PYTHON] if problems else [None]
    unseen = drawing.draw(settings.files, languages, _FEWEST)
    random = unseen[None]
    named = [document["language"] for document in random.documents]
    with Scorer(artefact, settings.workers) as scorer:
        embedded = scorer.embed([document["text"] for document in random.documents], "scoring unseen files")
        scores = scorer.heads.file_scores(*embedded, named)
        result: dict[str, Any] = {
            "annotator": {
                "name": artefact.name,
                **scorer.about,
                "heads": list(scorer.heads.heads),
                "counts": scorer.manifest.counts,
                "made": scorer.manifest.started,
            },
            "unseen": {"files": len(random.documents), "new_repositories": random.new_repositories},
            "benchmarks": _benchmarks(scorer, problems, unseen[PYTHON], settings, seed) if problems else [],
            "labels": None,
            "seeds": None,
        }
        if judged is not None:
            judged_scores = scorer.scores(judged.texts, judged.languages, "scoring the files people judged")
            probability = scorer.heads.probability(judged_scores, judged.languages)
            result["labels"] = agreement(judged, judged_scores, probability, settings.resamples, seed)
        repositories = [document["repository"] for document in random.documents]
        result["keys"] = {
            "correlations": correlations(random.documents, scores, settings.resamples, seed),
            "explained": {"language": explained(named, scores), "repository": explained(repositories, scores)},
            "edits": _edits(scorer, random.documents[: settings.edited], scores, settings, seed),
        }
        if settings.seeds:
            result["seeds"] = ablate_seeds(scorer, corpus, settings.seeds, embedded, named, scores, work / "parts")
    result["agreement"] = compared
    write_atomically(work / RESULT, orjson.dumps(result, option=orjson.OPT_INDENT_2))
    return result


def _benchmarks(scorer: Scorer, problems: dict[str, list[Problem]], random: Unseen, settings: AuditSettings, seed: int) -> list[dict[str, Any]]:
    """ROC-AUC of each benchmark's solutions against random Python files; whole groups are drawn for the interval, a solution being one."""
    ranked, against = rank(scorer, problems, random.documents)
    repositories = [document["repository"] for document in random.documents]
    found = []
    for name, solutions in ranked.items():
        scores = np.concatenate([solutions, against])
        positive = np.arange(len(scores)) < len(solutions)
        groups = [f"solution {number}" for number in range(len(solutions))] + repositories
        measured = roc(positive, scores)
        interval = bootstrap(auc_of(positive, scores), groups, settings.resamples, seed, positive)
        say(f"  {name}: ROC-AUC {measured['auc']:.3f} of {len(solutions)} solutions against {len(against)} unseen files")
        found.append(
            {
                "name": name, "language": PYTHON, "solutions": len(solutions), "random": len(against), "new_repositories": random.new_repositories,
                "auc": measured["auc"], "interval": interval, "points": measured["points"],
            }
        )  # fmt: skip
    return found


def _edits(scorer: Scorer, documents: list[Document], scores: np.ndarray, settings: AuditSettings, seed: int) -> list[dict[str, Any]]:
    """For each edit: files it changed, mean change of score and of rank (in shares of all unseen files), with intervals."""
    ranked = np.sort(scores)
    found = []
    for name, edit in EDITS.items():
        made = [(row, document["text"], edit(document["language"], document["text"])) for row, document in enumerate(documents)]
        edited = [(row, text) for row, before, text in made if text is not None and text != before and text.strip()]
        if len(edited) < 2:
            continue
        rows = np.array([row for row, _ in edited])
        after = scorer.scores([text for _, text in edited], [documents[row]["language"] for row in rows], f"scoring edits ({name})")
        change = after - scores[rows]
        moved = (np.searchsorted(ranked, after) - np.searchsorted(ranked, scores[rows])) / len(ranked)
        groups = [documents[row]["repository"] for row in rows]
        measured = [estimate(lambda some, of=of: float(of[some].mean()), groups, settings.resamples, seed) for of in (change, moved)]  # type: ignore[misc]
        found.append(
            {"edit": name, "files": len(rows), "change": measured[0]["value"], "interval": measured[0]["interval"], "rank_change": measured[1]["value"],
             "rank_interval": measured[1]["interval"]}
        )  # fmt: skip
    return found
