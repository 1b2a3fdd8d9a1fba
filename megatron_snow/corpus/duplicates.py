"""Which documents go because a better one says the same: exactly (equal text) or nearly (Jaccard of word n-grams).

All documents stand in order of preference (licence stated, stars, forks, latest revision, size, id), best first; of equal
texts the first stays. Near-duplicates are sought among documents that share a MinHash band. A document of a bucket is
compared exactly with the best documents of it, one after the other, and joins the first that is near enough
(``csrc/clusters.cpp``). So what stays does not depend on shards, workers or the order of the input, and none goes on the
word of a hash alone. Memory: some 60 bytes a document beside the mapped index, and the texts of one batch of comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow
import pyarrow.compute as compute

from megatron_snow.artifacts.progress import track
from megatron_snow.corpus import native
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import similarities

Texts = Callable[[np.ndarray], Sequence[bytes]]
_PAIRS = 4096  # compared in one batch (ours: some 20 to 40 MB of texts at 5 kB each)
_BATCH_BYTES = 256 * 2**20  # of texts held at once, where documents are large (ours)

_PREFERENCE = (  # BigCode's script (settings): licence, stars, forks, latest revision; then ours: the larger, then keys that no shard or order changes
    ("unlicensed", "ascending"), ("stars", "descending"), ("forks", "descending"), ("updated", "descending"),
    ("size", "descending"), ("id", "ascending"), ("digest", "ascending"),
)  # fmt: skip


def preference_order(index: pyarrow.Table) -> np.ndarray:
    """Rows of an index (``spool.INDEX``), best first: int64 [documents]. What is not known counts as 0 stars, 0 forks, never revised."""
    keys = pyarrow.table(
        {
            "unlicensed": compute.equal(index["license"], "").cast(pyarrow.int8()),
            "stars": compute.fill_null(index["stars"], 0),
            "forks": compute.fill_null(index["forks"], 0),
            "updated": compute.fill_null(index["updated"], ""),
            **{name: index[name] for name in ("size", "id", "digest")},
        }
    )
    return compute.sort_indices(keys, sort_keys=list(_PREFERENCE)).to_numpy().astype(np.int64)


def exact_duplicates(digests: np.ndarray) -> np.ndarray:
    """Place of the first document with the same digest, for each: int64 [documents]. ``digests``: uint64 [documents, 2], in order of preference."""
    order = np.lexsort((np.arange(len(digests)), digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = order[np.flatnonzero(new)]
    result = np.empty(len(order), dtype=np.int64)
    result[order] = firsts[np.cumsum(new) - 1]
    return result


def near_duplicates(
    band: Callable[[int], np.ndarray], count: int, sizes: np.ndarray, texts: Texts, settings: NearDuplicateSettings, threads: int = 1
) -> np.ndarray:  # fmt: skip
    """Place of the document that stays of each document's cluster: int64 [documents]; its own where it stays itself.

    Documents are numbered in order of preference. ``band(b)``: uint64 [documents], their keys in a band. ``sizes``: bytes of
    their texts. ``texts(numbers)``: the texts of some documents.
    """
    clusters = native.Clusters(count)
    for number in track(range(settings.bands), "clustering", unit="bands"):
        clusters.band(np.ascontiguousarray(band(number)), settings.max_comparisons)
        while len(pairs := clusters.pairs()):
            parts = [_near(pairs[start:end], texts, settings, threads) for start, end in _batches(pairs, sizes)]
            clusters.answer(np.concatenate(parts))
    return clusters.roots()


def _near(pairs: np.ndarray, texts: Texts, settings: NearDuplicateSettings, threads: int) -> np.ndarray:
    numbers, places = np.unique(pairs, return_inverse=True)
    return similarities(texts(numbers), places.reshape(pairs.shape), settings.words, threads) >= settings.jaccard


def _batches(pairs: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of batches of pairs; pairs of one leader are consecutive, so that its text is read once a batch."""
    ends = np.cumsum(sizes[pairs].sum(axis=1))
    found, start = [], 0
    while start < len(pairs):
        before = ends[start - 1] if start else 0
        end = max(start + 1, min(start + _PAIRS, int(np.searchsorted(ends, before + _BATCH_BYTES, side="right"))))
        found.append((start, end))
        start = end
    return found


@dataclass(frozen=True)
class Duplicates:
    """What goes and for what: rows of the index, as int64 arrays."""

    kept: np.ndarray
    """[documents that stay], in order of preference."""
    exact: np.ndarray
    """[exact duplicates, 2]: the row, and the row with the same text that is preferred."""
    near: np.ndarray
    """[near-duplicates, 2]: the row, and the row that stays of its cluster."""


def find_duplicates(index: pyarrow.Table, bands: np.ndarray, texts: Texts, settings: NearDuplicateSettings, threads: int = 1) -> Duplicates:
    """Exact and near-duplicates among the rows of an index.

    ``bands``: uint64 [bands, rows], mapped. ``texts(rows)``: the texts of some rows.
    """
    order = preference_order(index)
    digests = np.frombuffer(index["digest"].combine_chunks().cast(pyarrow.binary(16)).buffers()[1], dtype=np.uint64).reshape(-1, 2) if len(index) else None
    if digests is None:
        return Duplicates(order, np.empty((0, 2), dtype=np.int64), np.empty((0, 2), dtype=np.int64))
    first = exact_duplicates(digests[order])
    same = first != np.arange(len(order))
    rows = order[~same]
    sizes = index["size"].to_numpy()[rows]
    roots = near_duplicates(lambda band: bands[band][rows], len(rows), sizes, lambda numbers: texts(rows[numbers]), settings, threads)
    near = roots != np.arange(len(rows))
    return Duplicates(
        kept=rows[~near],
        exact=np.stack([order[same], order[first[same]]], axis=1),
        near=np.stack([rows[near], rows[roots[near]]], axis=1),
    )
