"""Which documents go because another says the same: an earlier one of the tier, or the file that a seed was cut from.

Near-duplicates by the corpus's own method (``corpus.duplicates``: MinHash bands propose, exact Jaccard of word n-grams decides), the
seeds' files standing before all documents, the documents in the order of their requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from megatron_snow.artifacts.documents import Document
from megatron_snow.corpus.duplicates import near_duplicates
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.corpus.shingles import band_keys

_SEEDS_AT_ONCE = 256  # files whose bands are made in one call (ours)
_USUAL_BYTES = 2**14  # of a document, by which comparisons are put into batches (ours: answers end at some thousand tokens)


def exact_repeats(fingerprints: Sequence[bytes]) -> set[int]:
    """Indices of those that are equal to an earlier one."""
    seen: set[bytes] = set()
    found = set()
    for index, fingerprint in enumerate(fingerprints):
        if fingerprint in seen:
            found.add(index)
        seen.add(fingerprint)
    return found


def near_repeats(
    bands: Sequence[bytes], text: Callable[[int], str], sources: Iterable[Document], settings: NearDuplicateSettings
) -> dict[int, int | None]:  # fmt: skip
    """Index of each document that is nearly another -> that other's index, or None where it is nearly one of ``sources``.

    ``bands``: what ``corpus.shingles.band_keys`` made of each document. ``text(i)`` is read only for those that share a band.
    Memory: the bands, and of the sources only those that share a band with a document.
    """
    if not bands:
        return {}
    own = np.frombuffer(b"".join(bands), dtype=np.uint64).reshape(len(bands), settings.bands)
    near_sources = _sharing(own, sources, settings)
    first = len(near_sources)
    kept = np.array([row for row, _ in near_sources], dtype=np.uint64).reshape(first, settings.bands)
    bands_of = np.concatenate([kept, own])

    def read(index: int) -> bytes:
        return near_sources[index][1] if index < first else text(index - first).encode()

    roots = near_duplicates(
        lambda band: bands_of[:, band], len(bands_of), np.full(len(bands_of), _USUAL_BYTES), lambda numbers: [read(int(i)) for i in numbers], settings
    )
    found = {index: int(other) for index, other in enumerate(roots) if other != index}
    return {index - first: other - first if other >= first else None for index, other in found.items() if index >= first}


def _sharing(own: np.ndarray, sources: Iterable[Document], settings: NearDuplicateSettings) -> list[tuple[np.ndarray, bytes]]:
    """(bands, text) of the sources that share a band with a document."""
    wanted = [np.unique(own[:, band]) for band in range(settings.bands)]
    found: list[tuple[np.ndarray, bytes]] = []
    batch: list[bytes] = []

    def sift() -> None:
        keys = band_keys(batch, settings)
        shares = np.zeros(len(batch), dtype=bool)
        for band, values in enumerate(wanted):
            shares |= np.isin(keys[:, band], values)
        found.extend((keys[index], batch[index]) for index in np.flatnonzero(shares))
        batch.clear()

    for source in sources:
        batch.append(source["text"].encode())
        if len(batch) == _SEEDS_AT_ONCE:
            sift()
    if batch:
        sift()
    return found
