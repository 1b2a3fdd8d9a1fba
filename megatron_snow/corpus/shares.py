"""No repository may make up more of a language than ``CorpusSettings.max_repository_share``: a compiler's test cases are not a language.

What goes is chosen by a seeded hash of the documents' names, over the whole corpus after duplicates are gone, so that it depends neither on
shards nor on workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow

from megatron_snow.corpus.sampling import hash_order

REASON = "over its repository's share"
_ROUNDING = 1e-12  # of double precision: three equal repositories are a third each


def largest_allowed(sizes: Sequence[int], share: float) -> float:
    """Bytes a repository may have in a language, so that none has more than ``share`` of what is left of it; infinity where none has to be cut.

    ``sizes``: bytes of each repository. With k repositories cut to c bytes and R bytes in the others, c = share * (k * c + R). Where there are
    fewer than 1 / share repositories no c does, and the language is left as it is.
    """
    ordered = sorted(sizes, reverse=True)
    rest = sum(ordered)
    for cut, largest in enumerate(ordered):
        if cut * share >= 1:
            break
        allowed = share * rest / (1 - cut * share)
        if largest <= allowed * (1 + _ROUNDING):
            return allowed if cut else float("inf")
        rest -= largest
    return float("inf")


def over_share(index: pyarrow.Table, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which of ``rows`` of an index (``spool.INDEX``) go: bool [len(rows)]. Of a repository's files of a language those first by hash stay, one at least."""
    gone = np.zeros(len(rows), dtype=bool)
    if share >= 1 or not len(rows):
        return gone
    some = index.select(["language", "repository", "size"]).take(pyarrow.array(rows))
    sizes = some["size"].to_numpy()
    language, repository = (some[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in ("language", "repository"))
    order = np.lexsort((repository, language))
    starts = np.flatnonzero(np.r_[True, (np.diff(language[order]) != 0) | (np.diff(repository[order]) != 0)])
    totals = np.add.reduceat(sizes[order], starts)
    of_language = language[order][starts]
    ends = np.r_[starts[1:], len(order)]
    for one in np.unique(of_language):
        groups = np.flatnonzero(of_language == one)
        allowed = largest_allowed(totals[groups].tolist(), share)
        for group in groups[totals[groups] > allowed]:
            members = order[starts[group] : ends[group]]
            names = zip(*(index[name].take(pyarrow.array(rows[members])).to_pylist() for name in ("id", "digest")), strict=True)
            ranked = members[[place for _, place in sorted(((hash_order(seed, name), name, digest), place) for place, (name, digest) in enumerate(names))]]
            gone[ranked[1:][np.cumsum(sizes[ranked])[1:] > allowed]] = True
    return gone
