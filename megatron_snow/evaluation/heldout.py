"""A sample of the held-out tier that is the same for every model of a recipe."""

from __future__ import annotations

import hashlib
import heapq
from pathlib import Path

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError


def _cut(text: str, size: int) -> str:
    """The first ``size`` UTF-8 bytes, less a character cut in two."""
    return text.encode()[:size].decode("utf-8", "ignore")


def sample(tier: Path, seed: int, language_bytes: int, document_bytes: int) -> dict[str, list[str]]:
    """Texts by language (sorted), ``language_bytes`` of each at most: files in the order of hash(seed, id), the last one cut.

    One pass over the tier; memory is what is kept. A file's place depends on its id alone, so that a corpus that grows keeps
    most of the sample. Raises SnowError where the tier holds no text.
    """
    kept: dict[str, list[tuple[int, str]]] = {}  # heaps: the last file of the order on top
    sizes: dict[str, int] = {}
    for document in read_documents(tier):
        text, language = _cut(document["text"], document_bytes), document["language"]
        if not text:
            continue
        rank = int.from_bytes(hashlib.sha256(f"{seed}/{document['id']}".encode()).digest()[:8], "big")
        heap = kept.setdefault(language, [])
        heapq.heappush(heap, (-rank, text))
        sizes[language] = sizes.get(language, 0) + len(text.encode())
        while sizes[language] - len(heap[0][1].encode()) >= language_bytes:
            sizes[language] -= len(heapq.heappop(heap)[1].encode())
    if not kept:
        raise SnowError(f"{tier} holds no text to measure on; give the corpus more repositories, or hold out a larger share (corpus settings)")
    return {language: _first_bytes([text for _, text in sorted(kept[language], reverse=True)], language_bytes) for language in sorted(kept)}


def _first_bytes(texts: list[str], limit: int) -> list[str]:
    found, room = [], limit
    for text in texts:
        if part := _cut(text, room):
            found.append(part)
        room -= len(part.encode())
    return found
