"""Documents of a tier as an endless token stream: pass after pass over them, each pass in an order of its own.

Pass e lists the documents of all shards in a random order keyed by (seed, name, e), one after another; pass e + 1
follows without a gap. Sample s of a stream is tokens [s x L, s x L + L], so that consecutive samples share one token
(the label of one's last token is the other's first) and no token is dropped, however small the tier.

Samples are dealt in a second random order, within each pass: a repository of a million tokens would otherwise fill
batch after batch. Neither order is stored; both are keyed bijections. In memory: the document lengths (4 bytes each) and
1/4 byte a document for each open pass; with a cache both are mapped, once for all processes of a machine.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from megatron_snow.blend import native
from megatron_snow.blend.languages import Selection
from megatron_snow.blend.occurrences import NOTHING, Found, covering, summed
from megatron_snow.blend.sample import Sample, Span
from megatron_snow.blend.shards import Integers, TierFiles, threads

_OPEN_PASSES = 2  # ours: a sample spans two passes at most, unless the tier is shorter than the sample


def _key(purpose: str, seed: int, name: str, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}/{name}/{epoch}".encode()).digest()[:8], "little")


def _each(epochs: list[tuple[int, int]]) -> list[int]:
    """(pass, pieces of it) in turn -> the pass of each piece."""
    return [epoch for epoch, pieces in epochs for _ in range(pieces)]


class DocumentStream:
    """The samples of a tier, or of some of its documents. ``tokens`` is what one pass holds."""

    def __init__(self, files: TierFiles, name: str, sequence_length: int, seed: int, selection: Selection | None = None) -> None:
        """``name`` keys the order of documents and samples, with the seed; ``selection``: the documents, all by default."""
        self.files, self.name, self.sequence_length, self._seed, self._selection = files, name, sequence_length, seed, selection
        self.tokens = files.tokens if selection is None else selection.tokens
        self._passes: OrderedDict[int, native.DocumentOrder] = OrderedDict()
        self._deal: dict[int, tuple[int, int, int]] = {}

    def spans(self, sample: int) -> list[Span]:
        """Where the tokens of the ``sample``-th sample dealt come from, in order."""
        rows, epochs = self._rows(sample)
        return self.files.spans(self.files.place(rows), rows, _each(epochs))

    def read(self, sample: int) -> Sample:
        """The ``sample``-th sample dealt."""
        rows, epochs = self._rows(sample)
        tokens, boundaries, places = self.files.read(rows)
        return Sample(tokens, boundaries, lambda: self.files.spans(places, rows, _each(epochs)))

    def passes(self, samples: int) -> int:
        """How many passes the first ``samples`` samples touch."""
        return -(-(samples * self.sequence_length + 1) // self.tokens) if samples else 0

    def prepare(self, epoch: int) -> None:
        """Build what reading from a pass needs, or find it in the cache."""
        self._spans(epoch, 0, 1)

    def occurrences(self, documents: Integers, samples: int) -> Found:
        """Which of the first ``samples`` samples dealt hold tokens of some of the tier's documents (int64, places through all shards), and how many."""
        if self._selection is not None:
            documents = np.flatnonzero(np.isin(self._selection.documents, documents))
        documents = documents[self._lengths()[documents] > 0]
        if not len(documents) or not samples:
            return NOTHING
        lengths = self._lengths()[documents].astype(np.int64)
        last = (samples - 1) * self.sequence_length // self.tokens  # the last pass that a sample begins in
        end = self._first(last + 1) * self.sequence_length + 1  # of the last sample that begins in it
        parts = [NOTHING]
        for epoch in range(-(-end // self.tokens)):
            begins = self._pass(epoch).starts(documents) + epoch * self.tokens
            places, tokens = covering(begins, begins + lengths, self.sequence_length)
            dealt = self._dealt(places)
            parts.append((dealt[dealt < samples], tokens[dealt < samples]))
        return summed(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]))

    def _first(self, epoch: int) -> int:
        """The first sample that begins in a pass."""
        return -(-epoch * self.tokens // self.sequence_length)

    def _dealt(self, places: Integers) -> Integers:
        """The samples dealt that lie at ``places`` of the stream: what ``_stream_sample`` gives, the other way round."""
        result = np.empty(len(places), np.int64)
        epochs = places * self.sequence_length // self.tokens
        for epoch in np.unique(epochs).tolist():
            first, chosen = self._first(epoch), epochs == epoch
            count, key = self._first(epoch + 1) - first, _key("samples", self._seed, self.name, epoch)
            result[chosen] = first + native.unpermute(places[chosen] - first, count, key)
        return result

    def _rows(self, sample: int) -> tuple[Integers, list[tuple[int, int]]]:
        """(document, first token, count) of each piece, int64 [pieces, 3]; and (pass, pieces of it) in turn."""
        position = self._stream_sample(sample) * self.sequence_length
        missing = self.sequence_length + 1
        parts, epochs = [], []
        while missing > 0:
            epoch, start = divmod(position, self.tokens)
            rows = self._spans(epoch, start, missing)
            taken = min(missing, self.tokens - start)
            position, missing = position + taken, missing - taken
            parts.append(rows)
            epochs.append((epoch, len(rows)))
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self._selection is not None:
            found[:, 0] = self._selection.documents[found[:, 0]]
        return found, epochs

    def _stream_sample(self, sample: int) -> int:
        """Place in the stream of the ``sample``-th sample dealt: shuffled among those that start in the same pass."""
        epoch = sample * self.sequence_length // self.tokens
        if epoch not in self._deal:
            first, end = self._first(epoch), self._first(epoch + 1)
            self._deal = {epoch: (first, end - first, _key("samples", self._seed, self.name, epoch))}
        first, count, key = self._deal[epoch]
        return first + native.permute(sample - first, count, key)

    def _spans(self, epoch: int, start: int, count: int) -> Integers:
        try:
            return self._pass(epoch).spans(start, count)
        except ValueError:
            if self.files.cache.folder is None:
                raise
        self.files.cache.drop(self._order_name(epoch))  # lengths and offsets contradict each other: one of the two is damaged
        self.files.forget()
        if self._selection is not None:
            self._selection.forget()
        self._passes.clear()
        return self._pass(epoch).spans(start, count)

    def _pass(self, epoch: int) -> native.DocumentOrder:
        order = self._passes.get(epoch)
        if order is None:
            order = self._passes[epoch] = self._open_pass(epoch)
            if len(self._passes) > _OPEN_PASSES:
                self._passes.popitem(last=False)
        return order

    def _order_name(self, epoch: int) -> str:
        content = (self._selection or self.files).fingerprint
        return f"order-{content}-{_key('documents', self._seed, self.name, epoch):016x}"

    def _open_pass(self, epoch: int) -> native.DocumentOrder:
        key, lengths = _key("documents", self._seed, self.name, epoch), self._lengths()
        if self.files.cache.folder is None:
            return native.DocumentOrder(lengths, key, threads())
        offsets = self.files.cache.get(self._order_name(epoch), "<i8", lambda: self._built(lengths, key).offsets)
        return native.DocumentOrder(lengths, key, offsets)

    def _built(self, lengths: npt.NDArray[np.int32], key: int) -> native.DocumentOrder:
        order = native.DocumentOrder(lengths, key, threads())
        if order.tokens != self.tokens:
            raise ValueError(f"the cached lengths add up to {order.tokens} tokens, the files hold {self.tokens}")
        return order

    def _lengths(self) -> npt.NDArray[np.int32]:
        return (self._selection or self.files).lengths
