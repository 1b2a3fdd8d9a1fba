"""Which documents go because a better one says the same: exactly (equal text) or nearly (Jaccard of word n-grams).

All documents stand in order of preference (licence stated, stars, size, id), best first; of equal texts the first
stays. Near-duplicates are sought among documents that share a MinHash band. A document of a bucket is compared exactly
with the best document of each cluster met there before it and joins the first that is near enough. So what stays does
not depend on shards or workers, no two documents that stay and share a bucket are near-duplicates, and none goes
on the word of a hash alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.spool import Entry

Similarity = Callable[[int, int], float]


def preference(entry: Entry) -> tuple[bool, int, int, str, str]:
    """Sort key, best first: licence stated, more stars (where known), larger, then by id and digest."""
    return (entry.license == "", -(entry.stars or 0), -entry.size, entry.id, entry.digest)


def exact_duplicates(entries: Sequence[Entry]) -> dict[int, int]:
    """Index of each document whose text an earlier one has -> index of that earlier one."""
    first: dict[str, int] = {}
    found = {}
    for index, entry in enumerate(entries):
        keeper = first.setdefault(entry.digest, index)
        if keeper != index:
            found[index] = keeper
    return found


class _Clusters:
    """Union-find whose roots are the smallest members, that is the preferred ones."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, index: int) -> int:
        parent = self._parent
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self._parent[max(a, b)] = min(a, b)


def near_duplicates(bands: np.ndarray, similarity: Similarity, settings: NearDuplicateSettings) -> dict[int, int]:
    """Index of each near-duplicate -> index of the document that stays of its cluster.

    ``bands``: uint64 [documents, bands], in order of preference. ``similarity(i, j)``: exact Jaccard of two documents.
    """
    clusters = _Clusters(len(bands))
    refused: set[tuple[int, int]] = set()
    for band in range(bands.shape[1]):
        for bucket in _buckets(bands[:, band]):
            leaders = [int(bucket[0])]
            for member in map(int, bucket[1:]):
                if not _joined(member, leaders[: settings.max_comparisons], clusters, refused, similarity, settings.jaccard):
                    leaders.append(member)
    roots = [clusters.root(index) for index in range(len(bands))]
    return {index: root for index, root in enumerate(roots) if root != index}


def _joined(
    member: int, leaders: Sequence[int], clusters: _Clusters, refused: set[tuple[int, int]], similarity: Similarity, threshold: float
) -> bool:  # fmt: skip
    """Whether ``member`` belongs to the cluster of one of ``leaders``; puts it there."""
    for leader in leaders:
        if clusters.root(leader) == clusters.root(member):
            return True
    for leader in leaders:
        if (leader, member) in refused:
            continue
        if similarity(leader, member) >= threshold:
            clusters.join(leader, member)
            return True
        refused.add((leader, member))
    return False


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of two or more indices with equal keys, each ascending."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.empty(0, dtype=np.int64)
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end]
