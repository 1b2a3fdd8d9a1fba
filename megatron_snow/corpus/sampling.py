"""A deterministic sample of files under a cap of bytes, spread over repositories and languages.

Every (repository, language) group gets the same share of bytes, or all it has if that is less: within a group files are
taken in hash order as long as they fit under the common level, and the level is the highest at which all groups
together stay under the cap. A proportional sample of installed packages would be mostly torch.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that may be taken: its order among its group's files, its group and its size in bytes."""

    order: bytes
    group: Hashable
    size: int


def hash_order(seed: int, name: str) -> bytes:
    """A pseudo-random sort key: a pure function of seed and name, the same on every machine."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(errors="surrogatepass"), digest_size=8).digest()


def sample(candidates: Iterable[Candidate], cap: int) -> list[int]:
    """Indices of the candidates taken, ascending; their sizes sum to at most ``cap`` bytes."""
    listed = list(candidates)
    if sum(c.size for c in listed) <= cap:
        return list(range(len(listed)))
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in sorted(range(len(listed)), key=lambda i: (listed[i].order, i)):
        groups[listed[index].group].append(index)
    low, high = 0, cap
    best: list[int] = []
    # Skipping what does not fit makes the total only almost monotonic in the level: keep the best seen, which is still deterministic.
    while low <= high:
        level = (low + high) // 2
        taken = [index for group in groups.values() for index in _fitting(group, listed, level)]
        total = sum(listed[index].size for index in taken)
        if total <= cap:
            best, low = taken, level + 1
        else:
            high = level - 1
    return sorted(best)


def _fitting(group: list[int], listed: list[Candidate], level: int) -> list[int]:
    """The files of one group, in hash order, that fit under ``level`` bytes; those that do not are skipped."""
    taken, used = [], 0
    for index in group:
        if used + listed[index].size <= level:
            taken.append(index)
            used += listed[index].size
    return taken
