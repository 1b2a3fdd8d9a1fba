"""The labelled files: which they are, their texts, and the split by repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.draw import Draw, draw_key
from megatron_snow.quality.heuristics import documented_functions
from megatron_snow.quality.jsonl import row_names, rows
from megatron_snow.quality.judged import judged_high
from megatron_snow.quality.settings import (
    AnnotateSettings,
    FunctionPositives,
    JsonlPositives,
    JudgedPositives,
    PositiveSource,
    RepositoryPositives,
    ScoredPositives,
)
from megatron_snow.quality.survey import Survey

NEGATIVE = -1
"""``Example.source`` of a negative."""
POOL = -2
"""``Example.source`` of a random file that may become a hard negative."""
LABELS = -3
"""``Example.source`` of a row of ``AnnotateSettings.labels``."""


@dataclass(frozen=True)
class Example:
    """A labelled file, without its text."""

    name: str
    repository: str
    language: str
    source: int
    """Index into ``AnnotateSettings.positives``, or ``NEGATIVE``, ``POOL`` or ``LABELS``."""
    label: float
    """In [0, 1]: 1 and 0 of the two classes (0 in the pool), or a label brought there from its scale."""


def stands_for(source: PositiveSource) -> str:
    """What a source of positives is, in words for the report."""
    match source:
        case JsonlPositives():
            return "rows of a file the user names, as in the paper (220k high-quality open-source files and 80k instruction examples)"
        case RepositoryPositives():
            return "files of chosen repositories; stands in for the paper's 220k high-quality open-source files"
        case ScoredPositives():
            return f"corpus files that another annotator scored {source.least:g} or more, as the paper's Ann-Ins takes Ann-Edu's of 3.5 of 5"
        case JudgedPositives():
            return "files that people labelled high; an arm of the paper's experiments that its annotators replace"
        case FunctionPositives():
            return "documented Python functions cut out of corpus files; stands in for the paper's 80k instruction examples"
        case _:
            return (
                "corpus files that pass a readable rule (comments, docstrings, length); stands in for the paper's 220k high-quality open-source files, "
                "so that the ROC-AUC measures how well the annotator recovers this rule, not a reviewer's judgement"
            )


def _text(document: Document, source: PositiveSource | None, seed: int) -> str:
    if not isinstance(source, FunctionPositives):
        return document["text"]
    functions = documented_functions(document["text"], source)
    return min(functions, key=lambda text: draw_key(seed, "function", document["id"] + "\0" + text))


def read_labelled(settings: AnnotateSettings, seed: int, standard: Path, survey: Survey) -> Iterator[tuple[Example, str]]:
    """Every labelled file with its text: those of the standard tier in its row order, then rows of jsonl files and files from outside that people judged.

    Raises SnowError where a file of them is missing or broken.
    """
    source_of = {name: index for index, names in enumerate(survey.positives) for name in names}
    source_of |= dict.fromkeys(survey.negatives, NEGATIVE) | dict.fromkeys(survey.pool, POOL)
    for document in read_documents(standard) if source_of else ():
        index = source_of.get(document["id"])
        if index is not None:
            source = settings.positives[index] if index >= 0 else None
            yield Example(document["id"], document["repository"], document["language"], index, float(index >= 0)), _text(document, source, seed)
    if settings.labels:
        draw = Draw(settings.labels.count, seed, "labels")
        for name in row_names(settings.labels, LABELS):
            draw.offer(name)
        for name, text, repository, language, label in rows(settings.labels, LABELS, frozenset(draw.names())):
            yield Example(name, repository, language, LABELS, label), text
        return
    for index, source in enumerate(settings.positives):
        if isinstance(source, JsonlPositives):
            for name, text, repository, language, label in rows(source, index, survey.positives[index]):
                yield Example(name, repository, language, index, label), text
        elif isinstance(source, JudgedPositives) and any(name.startswith(f"positives[{index}]:") for name in survey.positives[index]):
            for name, outside in judged_high(source, index, standard).items():
                if outside is not None and name in survey.positives[index]:
                    yield Example(name, name, outside[1], index, 1.0), outside[0]


def split_by_repository(repositories: Sequence[str], positive: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mark a validation set, bool [len(repositories)]: whole repositories, near ``share`` of the files, classes in proportion.

    Files of one repository are alike: on both sides of the split they would flatter the annotator.
    Raises SnowError where no split leaves both classes on both sides.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.unique(np.asarray(repositories), return_inverse=True)[1]
    smallest_class = int(min(positive.sum(), len(positive) - positive.sum()))
    folds = min(round(1 / share), smallest_class, int(groups.max()) + 1)
    best: np.ndarray | None = None
    if folds >= 2:
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed % 2**32)
        for training, validation in splitter.split(groups, positive, groups):
            both = all(0 < positive[part].sum() < len(part) for part in (training, validation))
            if both and (best is None or abs(len(validation) - share * len(groups)) < abs(len(best) - share * len(groups))):
                best = validation
    if best is None:
        counts = f"{int(positive.sum())} positives from {len({r for r, p in zip(repositories, positive, strict=True) if p})} repositories, " \
                 f"{int((~positive).sum())} negatives from {len({r for r, p in zip(repositories, positive, strict=True) if not p})}"  # fmt: skip
        raise SnowError(
            f"the labelled files cannot be split by repository with both classes on both sides: {counts}; draw from more repositories or raise the counts"
        )
    mask = np.zeros(len(groups), dtype=bool)
    mask[best] = True
    return mask
