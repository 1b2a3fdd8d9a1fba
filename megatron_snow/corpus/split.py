"""The held-out split: whole repositories, chosen before any tier exists, by hash of their name.

A repository's side does not depend on the others, but for rules that matter only in small corpora, where a coin toss
must not take a third of the corpus or most of a language: a repository is not held out if it is larger than the whole
held-out share, if all together would pass twice that share, or if a language would lose more than a quarter of its
bytes. A language that three or more repositories have gets one held-out repository, for which all together may reach
three times the share and the language may lose half; and the set is never empty.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

from megatron_snow.artifacts.errors import SnowError

_SPARED = 3  # ours: a language that fewer repositories have is left to training
_USUAL = (2.0, 0.25)  # ours: held-out bytes at most, in held-out shares, and of a language's bytes
_FOR_A_LANGUAGE = (3.0, 0.5)  # ours: the same where else a language would have nothing held out
Sizes = Mapping[str, Mapping[str, int]]


def coordinate(repository: str, seed: int) -> float:
    """Where a repository's name falls in [0, 1), uniformly."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0held-out\0{repository}".encode()).digest()[:8], "big") / 2**64


def choose_heldout(sizes: Sizes, fraction: float, seed: int) -> set[str]:
    """The repositories to hold out. ``sizes``: repository -> language -> bytes.

    Raises SnowError where nothing can be held out because there is one repository only.
    """
    if not sizes:
        return set()
    if len(sizes) < 2:
        raise SnowError(f"the corpus has one repository only ({next(iter(sizes))}), so none can be held out; add sources or lift max_bytes")
    order = sorted(sizes, key=lambda repository: coordinate(repository, seed))
    budget = _Budget(sizes, fraction)
    for repository in order:
        if coordinate(repository, seed) >= fraction:
            break
        budget.hold_out(repository, *_USUAL)
    owners: dict[str, list[str]] = defaultdict(list)
    for repository in order:
        for language in sizes[repository]:
            owners[language].append(repository)
    for language in sorted(owners):
        if len(owners[language]) < _SPARED or not budget.heldout.isdisjoint(owners[language]):
            continue
        any(budget.hold_out(repository, *bounds) for bounds in (_USUAL, _FOR_A_LANGUAGE) for repository in owners[language])
    return budget.heldout or {min(order, key=lambda repository: budget.totals[repository])}


class _Budget:
    """What is held out so far, and whether one repository more fits."""

    def __init__(self, sizes: Sizes, fraction: float) -> None:
        self._sizes = sizes
        self.totals = {repository: sum(languages.values()) for repository, languages in sizes.items()}
        self._limit = fraction * sum(self.totals.values())
        self._of_language: Counter[str] = Counter()
        for languages in sizes.values():
            self._of_language.update(languages)
        self._held: Counter[str] = Counter()
        self.heldout: set[str] = set()

    def hold_out(self, repository: str, shares: float, of_language: float) -> bool:
        """Hold ``repository`` out if the bounds allow it; returns whether they did."""
        total, languages = self.totals[repository], self._sizes[repository]
        fits = total <= self._limit and self._held.total() + total <= shares * self._limit
        if not fits or any(self._held[language] + size > of_language * self._of_language[language] for language, size in languages.items()):
            return False
        self.heldout.add(repository)
        self._held.update(languages)
        return True
