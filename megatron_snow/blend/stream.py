"""A tier as an endless token stream: pass after pass over its documents, each pass in an order of its own.

Pass e lists the documents of all shards in a random order keyed by (seed, tier, e), one after another; pass e + 1
follows without a gap. Sample s of a stream is tokens [s x L, s x L + L], so that consecutive samples share one token
(the label of one's last token is the other's first) and no token is dropped, however small the tier.

Samples are dealt in a second random order, within each pass: a repository of a million tokens would otherwise fill
batch after batch. Neither order is stored; both are keyed bijections. In memory: a tier's document lengths
(4 bytes each; none where the tier is one shard, whose index is mapped) and 1/4 byte a document for each open pass.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native
from megatron_snow.blend.sample import Sample, Span
from megatron_snow.tokens.indexed import IndexedDataset

_OPEN_PASSES = 2  # ours: a sample spans two passes at most, unless the tier is shorter than the sample


def _key(purpose: str, seed: int, tier: str, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}/{tier}/{epoch}".encode()).digest()[:8], "little")


class TierStream:
    """One tier's samples. ``tokens`` is what one pass holds."""

    def __init__(self, folder: Path, tier: str, sequence_length: int, seed: int) -> None:
        """``folder``: holds a folder per tier with shards ``*.bin`` / ``*.idx``. Raises SnowError where the tier is missing or empty."""
        self.tier, self.sequence_length, self._seed = tier, sequence_length, seed
        prefixes = sorted(path.with_suffix("") for path in (folder / tier).glob("*.idx"))
        if not prefixes:
            there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else "no such folder"
            raise SnowError(f"no tier {tier!r} in {folder} (there is: {there or 'nothing'}): no {tier}/*.idx; tokenize it, or take it out of the blend")
        self._shards = [IndexedDataset(prefix) for prefix in prefixes]
        self.tokens = sum(shard.tokens for shard in self._shards)
        if self.tokens == 0:
            raise SnowError(
                f"tier {tier!r} in {folder} holds no tokens ({len(prefixes)} shards, all empty); loosen what selects it, or take it out of the blend"
            )
        self._first_document = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._lengths = _lengths(self._shards)
        self._passes: OrderedDict[int, native.DocumentOrder] = OrderedDict()

    def spans(self, sample: int) -> list[Span]:
        """Where the tokens of the ``sample``-th sample dealt come from, in order."""
        return self._name(list(self._pieces(sample)))

    def read(self, sample: int) -> Sample:
        """The ``sample``-th sample dealt."""
        pieces = list(self._pieces(sample))
        parts = [self._shards[shard].doc(document)[first : first + count] for shard, document, first, count, _ in pieces]
        tokens = np.concatenate(parts, dtype=np.int64, casting="unsafe")
        return Sample(tokens, np.cumsum([0, *map(len, parts)]), lambda: self._name(pieces))

    def _name(self, pieces: list[tuple[int, int, int, int, int]]) -> list[Span]:
        return [Span(self.tier, self._shards[shard].prefix.name, document, first, count, epoch) for shard, document, first, count, epoch in pieces]

    def _pieces(self, sample: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(shard, document in it, first token, count, pass) of each piece."""
        position = self._stream_sample(sample) * self.sequence_length
        end = position + self.sequence_length + 1
        while position < end:
            epoch, start = divmod(position, self.tokens)
            rows = self._pass(epoch).spans(start, end - position)
            shards = np.searchsorted(self._first_document, rows[:, 0], side="right") - 1
            rows[:, 0] -= self._first_document[shards]
            position += int(rows[:, 2].sum())
            yield from ((shard, *row, epoch) for shard, row in zip(shards.tolist(), rows.tolist(), strict=True))

    def _stream_sample(self, sample: int) -> int:
        """Place in the stream of the ``sample``-th sample dealt: shuffled among those that start in the same pass."""
        epoch = sample * self.sequence_length // self.tokens
        first, end = (-(-e * self.tokens // self.sequence_length) for e in (epoch, epoch + 1))
        return first + native.permute(sample - first, end - first, _key("samples", self._seed, self.tier, epoch))

    def _pass(self, epoch: int) -> native.DocumentOrder:
        order = self._passes.pop(epoch, None)
        if order is None:
            order = self._open_pass(epoch)
        self._passes[epoch] = order
        while len(self._passes) > _OPEN_PASSES:
            self._passes.popitem(last=False)
        return order

    def _open_pass(self, epoch: int) -> native.DocumentOrder:
        try:
            order = native.DocumentOrder(self._lengths, _key("documents", self._seed, self.tier, epoch))
        except ValueError as error:
            raise SnowError(f"tier {self.tier!r}: {error}; the index is damaged: tokenize again") from error
        if order.tokens != self.tokens:
            raise SnowError(
                f"tier {self.tier!r}: document lengths add up to {order.tokens} tokens, the files hold {self.tokens}; the index is damaged: tokenize again"
            )
        return order


def _lengths(shards: list[IndexedDataset]) -> npt.NDArray[np.int32]:
    """Tokens of each document of all shards, int32."""
    for shard in shards:
        if shard.lengths.dtype != np.int32 and len(shard) and (longest := int(shard.lengths.max())) > np.iinfo(np.int32).max:
            raise SnowError(f"{shard.prefix}.idx has a document of {longest} tokens, the most is 2^31 - 1; split it")
    lengths = [shard.lengths for shard in shards]
    return np.concatenate(lengths).astype(np.int32, copy=False) if len(lengths) > 1 else lengths[0].astype(np.int32, copy=False)
