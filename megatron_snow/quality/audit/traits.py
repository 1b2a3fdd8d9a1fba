"""What a score goes with: length, comments, docstrings, a licence header, tests, and how much of it language and repository explain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from megatron_snow.artifacts.documents import Document
from megatron_snow.quality.audit.intervals import estimate, spearman
from megatron_snow.quality.heuristics import COMMENT_MARKS, comments_and_code, docstring_lines, parse_python, source_lines

_HEAD_LINES = 30  # searched for a licence (ours: longer than Apache's notice)
_LICENCE = re.compile(r"licen[cs]e|copyright|spdx-license-identifier|all rights reserved", re.IGNORECASE)
_TEST = re.compile(r"(?:^|[/_.-])(?:tests?|testing|spec)(?:$|[/_.-])", re.IGNORECASE)
_FEWEST = 20  # files of a language for numbers of its own (ours)


def traits(document: Document) -> dict[str, float]:
    """The numbers of one file; NaN where a trait has no meaning for it (docstrings outside Python, comments of a language without marks).

    - ``characters``, ``lines``, ``mean_line`` (characters a line)
    - ``comment_share``: comment and docstring lines among those that are not blank, the file's head aside
    - ``docstring_share``: docstring lines among those that are not blank
    - ``licence_header``: 1 where the first lines speak of a licence or copyright
    - ``test_path``: 1 where the path has a part called test, tests, testing or spec
    """
    text, language = document["text"], document["language"]
    lines = source_lines(text)
    filled = sum(bool(line.strip()) for line in lines)
    documented: set[int] = set()
    docstrings = comment_share = float("nan")
    if language == "Python" and (tree := parse_python(text)) is not None:
        documented = docstring_lines(tree)
        docstrings = len(documented) / max(filled, 1)
    if language in COMMENT_MARKS:
        comments, code = comments_and_code(text, language, documented)
        comment_share = comments / max(comments + len(code), 1)
    return {
        "characters": float(len(text)),
        "lines": float(len(lines)),
        "mean_line": len(text) / len(lines),
        "comment_share": comment_share,
        "docstring_share": docstrings,
        "licence_header": float(any(_LICENCE.search(line) for line in lines[:_HEAD_LINES])),
        "test_path": float(_TEST.search(document["path"]) is not None),
    }


def correlations(documents: Sequence[Document], scores: np.ndarray, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Spearman's correlation of the score with each trait, with its interval, over all files and within each language that has enough.

    Rows: trait, language (None: all), value, interval, files.
    """
    rows = [traits(document) for document in documents]
    languages = np.array([document["language"] for document in documents], dtype=object)
    repositories = np.array([document["repository"] for document in documents], dtype=object)
    many = [name for name, count in Counter(languages.tolist()).most_common() if count >= _FEWEST]
    found = []
    for trait in rows[0]:
        values = np.array([row[trait] for row in rows])
        for language in (None, *many):
            part = np.isfinite(values) & (True if language is None else languages == language)
            if part.sum() < _FEWEST:
                continue
            numbers = estimate(spearman(values[part], scores[part]), repositories[part].tolist(), resamples if language is None else 200, seed)
            if numbers["value"] is not None:
                found.append({"trait": trait, "language": language, **numbers, "files": int(part.sum())})
    return found


def explained(groups: Sequence[str], scores: np.ndarray) -> float | None:
    """Share of the variance of the scores' ranks that lies between groups (epsilon squared: freed of what groups of random files explain).

    None where there is one group only, or as many as files.
    """
    from scipy.stats import rankdata

    _, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    count = int(index.max()) + 1
    ranks = rankdata(scores)
    total = ((ranks - ranks.mean()) ** 2).sum()
    if count < 2 or count >= len(ranks) or total == 0:
        return None
    sizes = np.bincount(index)
    means = np.bincount(index, weights=ranks) / sizes
    within = ((ranks - means[index]) ** 2).sum()
    return float(1 - (within / (len(ranks) - count)) / (total / (len(ranks) - 1)))
