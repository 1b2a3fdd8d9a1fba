"""Random samples that depend on the seed and on names only: the same for any order, sharding or number of workers."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Mapping

KEY_SPACE = 2**64


def draw_key(seed: int, purpose: str, name: str) -> int:
    """A uniform number in [0, 2^64) for ``name``; different purposes give independent numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Draw:
    """Keep the ``size`` names with the smallest keys out of all that are offered."""

    def __init__(self, size: int, seed: int, purpose: str) -> None:
        self._size, self._seed, self._purpose = size, seed, purpose
        self._heap: list[tuple[int, str]] = []  # keys negated: the worst one kept is on top

    def offer(self, name: str, qualifies: Callable[[], bool] = lambda: True) -> None:
        """Offer a name; ``qualifies`` is asked only where the name would be kept, so it may be slow."""
        key = draw_key(self._seed, self._purpose, name)
        full = len(self._heap) >= self._size
        if (full and -key <= self._heap[0][0]) or not qualifies():
            return
        if full:
            heapq.heapreplace(self._heap, (-key, name))
        else:
            heapq.heappush(self._heap, (-key, name))

    def names(self) -> list[str]:
        """The names drawn, smallest key first."""
        return [name for _, name in sorted(self._heap, reverse=True)]


def apportion(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Split ``total`` over names in proportion to ``sizes`` (largest remainders, ties by name); never more than a size.

    Each name gets one at least, so that no language vanishes from a small sample; where ``total`` is less than the number of
    names, the largest get one each.
    """
    everything = sum(sizes.values())
    if total >= everything:
        return dict(sizes)
    largest_first = sorted(sizes, key=lambda name: (-sizes[name], name))
    if total <= len(sizes):
        return {name: int(position < total) for position, name in enumerate(largest_first)}
    exact = {name: total * sizes[name] / everything for name in largest_first}
    shares = {name: max(1, int(value)) for name, value in exact.items()}
    missing = total - sum(shares.values())
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[: max(missing, 0)]:
        shares[name] += 1
    for _ in range(-missing):  # what lifted the small to one, the largest give
        shares[max(largest_first, key=lambda name: shares[name])] -= 1
    return shares
