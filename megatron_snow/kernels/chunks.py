"""How long the chunks of the loss head are; apart from it, so that a memory estimate needs no torch."""

from __future__ import annotations

CHUNKS = 10  # ours: a tenth of the logits held at once, at most
SHORTEST = 256  # rows; ours: below it the weight gradient's traffic is all there is, and the buffer is small anyway
_TILE = 128  # rows of the matrix products' tiles


def chunk_for(tokens: int) -> int:
    """Tokens a chunk: a tenth of all, in whole tiles."""
    return max(SHORTEST, tokens // CHUNKS // _TILE * _TILE)
