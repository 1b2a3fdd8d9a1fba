"""How long the chunks of the loss head are; apart from it, so that a memory estimate needs no torch."""

from __future__ import annotations

CHUNKS = {"cuda": 10, "cpu": 6}  # ours: beside what follows, a chunk holds at most this part of the logits (LOG.md 2026-11-26)
SHORTEST = 256  # rows; ours: below it the weight gradient's traffic is all there is, and the buffer is small anyway
_TILE = 128  # rows of the matrix products' tiles


def chunk_for(tokens: int, hidden: int, device: str, shards: int = 1) -> int:
    """Tokens a chunk, equal ones in whole tiles; ``device`` is cuda or cpu, ``shards`` the processes that share the vocabulary.

    On a GPU ``hidden`` rows of logits come free: they take the memory of one gradient of the weight, which autograd is handed
    later (and which reuses that memory).
    """
    most = max(SHORTEST, tokens * shards // CHUNKS[device] + (hidden if device == "cuda" else 0))
    chunks = max(1, -(-tokens // most))
    return max(1, -(-tokens // chunks // _TILE)) * _TILE
