"""Selection: per language from the top until its share of the token budget, so that the language mix stays the corpus's.

A language's files are ranked by score, ties by id, and taken in that order up to the point nearest to its share. The result
depends on scores, ids and token counts only, not on sharding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def language_tokens(scored: pa.Table, corpus_bytes: Mapping[str, int]) -> dict[str, float]:
    """Tokens of each language in the standard tier: its bytes times tokens a byte of its scored files.

    Exact where every file is scored; an estimate from the sample where not. Languages of which nothing is scored are left out.
    """
    sums = scored.group_by("language").aggregate([("tokens", "sum"), ("bytes", "sum")])
    rates = {row["language"]: row["tokens_sum"] / max(row["bytes_sum"], 1) for row in sums.to_pylist()}
    return {language: corpus_bytes[language] * rates[language] for language in sorted(rates)}


def nearest_prefix(tokens: np.ndarray, target: float) -> int:
    """How many of the first documents come nearest to ``target`` tokens together; the fewer where two are as near."""
    totals = np.concatenate(([0], np.cumsum(tokens, dtype=np.int64)))
    return int(np.argmin(np.abs(totals - target)))


def select(
    scored: pa.Table, corpus_tokens: Mapping[str, float], budget: int, floors: Mapping[str, float] | None = None
) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """Choose rows of ``scored`` (columns language, id, score, tokens) for ``budget`` tokens.

    Returns a mask, bool [rows], and for each language: files scored and selected, tokens scored, ``target`` and ``selected_tokens``,
    ``threshold`` (the lowest score selected, None where none is), how many files have exactly that score and how many of these are
    selected (``at_threshold``, ``at_threshold_selected``), ``floor`` and ``mix`` (its share of the corpus's tokens).
    ``floors``: language (or ``"*"``) -> least score selected.
    A language with less than its share is taken whole; what it lacks is not given to others, for that would change the mix.
    """
    order = pc.sort_indices(scored, sort_keys=[("language", "ascending"), ("score", "descending"), ("id", "ascending")]).to_numpy()
    languages = scored["language"].combine_chunks().dictionary_encode()
    codes, names = languages.indices.to_numpy()[order], languages.dictionary.to_pylist()
    scores, tokens = scored["score"].to_numpy(), scored["tokens"].to_numpy()
    everything = sum(corpus_tokens.values())
    mask = np.zeros(len(order), dtype=bool)
    report: dict[str, dict[str, Any]] = {}
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)])) if len(codes) else np.zeros(1, dtype=int)
    for start, end in itertools.pairwise(bounds):
        language, ranked = names[codes[start]], order[start:end]
        mix = corpus_tokens[language] / everything if everything else 0.0
        floor = (floors or {}).get(language, (floors or {}).get("*"))
        above = ranked if floor is None else ranked[scores[ranked] >= floor]
        taken = above[: nearest_prefix(tokens[above], mix * budget)]
        mask[taken] = True
        report[language] = {
            "files": len(ranked), "tokens": int(tokens[ranked].sum()), "mix": mix, "target": round(mix * budget), "selected": len(taken),
            "selected_tokens": int(tokens[taken].sum()), "threshold": float(scores[taken[-1]]) if len(taken) else None,
            "floor": floor, "at_threshold": int((scores[ranked] == scores[taken[-1]]).sum()) if len(taken) else 0,
            "at_threshold_selected": int((scores[taken] == scores[taken[-1]]).sum()) if len(taken) else 0,
        }  # fmt: skip
    return mask, report
