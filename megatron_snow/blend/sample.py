"""One sample: its tokens, where each document's piece in it begins, and where in the corpus each piece lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Span(NamedTuple):
    """A run of tokens of one document inside a sample."""

    tier: str
    shard: str
    """Name of the shard's files without ``.bin`` / ``.idx``."""
    document: int
    """Place in the shard."""
    first: int
    """First token within the document."""
    tokens: int
    """How many."""
    epoch: int
    """Which pass over its tier this is, from 0: with tier, shard and document the seed of whatever should differ from pass to pass."""


@dataclass(frozen=True)
class Sample:
    """Piece k is ``tokens[boundaries[k] : boundaries[k + 1]]``, read from ``spans[k]``."""

    tokens: npt.NDArray[np.int64]
    """int64 [sequence_length + 1]: one more than the model sees, for the labels."""
    boundaries: npt.NDArray[np.int64]
    """int64 [pieces + 1]: 0, where each further piece begins, and ``len(tokens)``."""
    locate: Callable[[], list[Span]]
    """Names the pieces; asked only when ``spans`` is."""

    @cached_property
    def spans(self) -> list[Span]:
        """Where each piece lies in its tier."""
        return self.locate()

    @property
    def cumulative_lengths(self) -> npt.NDArray[np.int32]:
        """Where the pieces begin among the tokens the model sees (the last token is only a label): int32, from 0 to sequence_length."""
        inside = len(self.tokens) - 1
        return np.append(self.boundaries[self.boundaries < inside], inside).astype(np.int32)

    def with_tokens(self, tokens: npt.NDArray[np.int64], boundaries: npt.NDArray[np.int64]) -> Sample:
        """The same pieces in other words (fill in the middle, for one): as many tokens and boundaries as before."""
        if tokens.shape != self.tokens.shape or boundaries.shape != self.boundaries.shape or boundaries[0] != 0 or boundaries[-1] != len(tokens):
            raise ValueError(f"{tokens.shape} tokens and {boundaries.shape} boundaries do not stand for {self.tokens.shape} and {self.boundaries.shape}")
        return replace(self, tokens=tokens, boundaries=boundaries)


Transform = Callable[[Sample], Sample]
"""What a dataset does to each sample as it is read: a pure function (any process may read a sample, any number of times) that can be pickled."""
