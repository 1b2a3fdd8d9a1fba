"""A phase in megatron-core 0.16.1's own order: for a run that began with Megatron-LM and goes on here, sample for sample.

Each shard of a tier is a dataset of the blend, as Megatron-LM's ``--data-path`` names them: a tier's weight is spread
over its shards by their tokens, one shard in all is no blend. ``samples`` must be what that run was started for
(``--train-iters`` times ``--global-batch-size``, or ``--train-samples``): there the order depends on it.

Followed: ``GPTDataset``, ``BlendedDataset`` and ``BlendedMegatronDatasetBuilder`` of that version: numpy's shuffles of
documents and samples, the last epoch apart where less than 80 % of it is needed, a surplus of samples for each dataset.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.documents import DocumentTables, FilePiece
from megatron_snow.blend.occurrences import NOTHING, Found, listed, looked_up, summed
from megatron_snow.blend.sample import Sample, Span, Transform
from megatron_snow.blend.settings import MegatronOrder
from megatron_snow.blend.shards import Integers, TierFiles

_RUN = 2**20  # places of the document index looked at together (ours: some tens of MB)
_SEPARATE_BELOW = 0.80  # megatron-core 0.16.1, GPTDataset: share of the last epoch below which it is shuffled by itself


class ShardOrder:
    """One dataset of the blend: the ``samples`` samples that ``GPTDataset`` would build of a shard."""

    def __init__(self, lengths: npt.NDArray[np.int32], sequence_length: int, samples: int, seed: int, cache: IndexCache, content: str) -> None:
        """``lengths``: of the documents it may use; ``content`` names them in the cache. Raises SnowError where they have too few tokens."""
        self.lengths, self.sequence_length = lengths, sequence_length
        self.tokens = int(lengths.sum(dtype=np.int64))
        if self.tokens < 2:
            raise SnowError(f"a shard has {self.tokens} tokens to train on, megatron-core's order needs 2 at least; take it out of the tier")
        self.epochs = max(1, -(-(samples * sequence_length + 1) // self.tokens))
        self.samples = (self.epochs * self.tokens - 1) // sequence_length
        self._first = self._apart(samples)
        self._seed = seed
        name = hashlib.sha256(f"{content}/{sequence_length}/{samples}/{seed}".encode()).hexdigest()[:32]
        wide = max(self.epochs * len(lengths), int(lengths.max())) > np.iinfo(np.int32).max
        made: dict[str, npt.NDArray[Any]] = {}

        def part(which: str) -> npt.NDArray[Any]:
            if not made:
                made.update(self._build(wide))
            return made[which].reshape(-1)

        self.document_index = cache.get(f"megatron-documents-{name}", "<i4", lambda: part("documents"))
        self.sample_index = cache.get(f"megatron-samples-{name}", "<i8" if wide else "<i4", lambda: part("samples")).reshape(-1, 2)
        self.shuffle_index = cache.get(f"megatron-shuffle-{name}", "<u4" if self.samples < 2**32 - 2 else "<i8", lambda: part("shuffle"))

    def _apart(self, samples: int) -> int | None:
        """How many samples lie before the last epoch, where that is shuffled by itself."""
        if self.epochs == 1:
            return None
        before = ((self.epochs - 1) * self.tokens - 1) // self.sequence_length
        return before if samples - before < int(_SEPARATE_BELOW * ((self.tokens - 1) // self.sequence_length)) else None

    def _build(self, wide: bool) -> dict[str, npt.NDArray[Any]]:
        random = np.random.RandomState(self._seed)
        parts = [self.epochs] if self._first is None else [self.epochs - 1, 1]
        orders = []
        for epochs in parts:
            orders.append(np.tile(np.arange(len(self.lengths), dtype=np.int32), epochs))
            random.shuffle(orders[-1])
        documents = np.concatenate(orders)
        make = native.megatron_samples_64 if wide else native.megatron_samples_32
        index = make(self.lengths, documents, self.sequence_length, self.samples)
        bounds = [0, self.samples] if self._first is None else [0, self._first, self.samples]
        shuffles = []
        for start, stop in itertools.pairwise(bounds):
            shuffles.append(np.arange(start, stop, dtype=np.uint32 if self.samples < 2**32 - 2 else np.int64))
            random.shuffle(shuffles[-1])
        return {"documents": documents, "samples": index, "shuffle": np.concatenate(shuffles)}

    def rows(self, sample: int) -> tuple[Integers, Integers]:
        """(document, first token, tokens) of each piece of a sample, int64 [pieces, 3], and which epoch each is of."""
        at = int(self.shuffle_index[sample])
        (first, offset), (last, end) = self.sample_index[at].tolist(), self.sample_index[at + 1].tolist()
        places = np.arange(first, last + 1)
        documents = self.document_index[first : last + 1].astype(np.int64)
        rows = np.stack((documents, np.zeros_like(documents), self.lengths[documents].astype(np.int64)), axis=1)
        rows[-1, 2] = end + 1
        rows[0, 1] = offset
        rows[0, 2] -= offset
        kept = rows[:, 2] > 0
        return rows[kept], (places // len(self.lengths))[kept]

    def occurrences(self, documents: Integers) -> Found:
        """The samples (in the order they are taken in) that hold tokens of some documents, and how many each."""
        wanted = np.zeros(len(self.lengths), bool)
        wanted[documents] = True
        parts = [NOTHING]
        for start in range(0, len(self.document_index), _RUN):
            places = start + np.flatnonzero(wanted[self.document_index[start : start + _RUN]])
            places = places[self.lengths[self.document_index[places]] > 0]
            first = np.maximum(np.searchsorted(self.sample_index[:, 0], places, side="left") - 1, 0)
            last = np.minimum(np.searchsorted(self.sample_index[:, 0], places, side="right"), self.samples)
            counts = last - first
            place = np.repeat(places, counts)
            samples = np.repeat(first, counts) + np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
            parts.append(self._overlap(samples, place))
        shuffled = summed(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]))

        def run(first: int, count: int) -> Found:
            hit, tokens = looked_up(shuffled, np.asarray(self.shuffle_index[first : first + count], np.int64))
            return first + np.flatnonzero(hit), tokens

        return listed(len(self.shuffle_index), run)

    def _overlap(self, samples: Integers, places: Integers) -> Found:
        """Of pairs of sample and place in the document index: those where the one has tokens of the other, and how many besides a label at its end."""
        (first, offset), (last, end) = self.sample_index[samples].T.astype(np.int64), self.sample_index[samples + 1].T.astype(np.int64)
        begin = np.where(places == first, offset, 0)
        stop = np.where(places == last, end + 1, self.lengths[self.document_index[places]])
        inside = (places >= first) & (places <= last) & (stop > begin)
        return samples[inside], (stop - begin - (places == last))[inside]


class MegatronSamples:
    """As ``PhaseDataset``, in megatron-core's order. ``len(data) == samples``. Can be pickled: only the arguments travel."""

    def __init__(
        self,
        tokens: Path,
        blend: Mapping[str, float],
        sequence_length: int,
        samples: int,
        order: MegatronOrder,
        max_epochs: Mapping[str, float] | None = None,
        transform: Transform | None = None,
        cache: Path | None = None,
    ) -> None:
        """Build the order of a whole phase, or map it from the cache.

        Args:
            tokens, blend, sequence_length, samples, max_epochs, transform, cache: as ``PhaseDataset``'s.
            order: what that run was started with.

        Raises:
            SnowError: where a tier is missing, has documents of several sequences or would be repeated too often, or where
                megatron-core's blend would ask a dataset for a sample it has not.
        """
        self._arguments = (tokens, dict(blend), sequence_length, samples, order, dict(max_epochs or {}), transform, cache)
        self._transform = transform
        self._files = [TierFiles(Path(tokens), tier, IndexCache(cache)) for tier in blend]
        self._tables = DocumentTables(Path(tokens))
        self._shards = [(tier, shard) for tier, files in enumerate(self._files) for shard in range(len(files.names)) if files.shard_tokens[shard]]
        weights = np.array([list(blend.values())[tier] * self._files[tier].shard_tokens[shard] / self._files[tier].tokens for tier, shard in self._shards])
        weights /= weights.sum()
        single = len(self._shards) == 1
        wanted = [samples] if single else [ceil(samples * weight) for weight in weights.tolist()]
        self._orders = [
            self._shard_order(tier, shard, count if single else ceil(count * (1 + order.surplus)))
            for (tier, shard), count in zip(self._shards, wanted, strict=True)
        ]
        if single:
            self.dataset_index, self.dataset_sample_index = np.zeros(samples, np.int32), np.arange(samples)
        else:
            self.dataset_index, self.dataset_sample_index = native.megatron_blend(weights / weights.sum(), sum(wanted))
        taken = np.bincount(self.dataset_index, minlength=len(self._shards))
        for (tier, shard), one, count in zip(self._shards, self._orders, taken.tolist(), strict=True):
            if count > one.samples:
                raise SnowError(
                    f"megatron-core's blend asks {self._files[tier].prefix(shard)} for {count} samples, it builds {one.samples} of it; "
                    f"raise megatron.surplus, now {order.surplus:g} (Megatron-LM's mid_level_dataset_surplus)"
                )
        for name, most in (max_epochs or {}).items():
            if (passes := self.epochs(name)) > most:
                raise SnowError(f"tier {name!r} would be read {passes:.2f} times, max_epochs allows {most:g}; shorten the phase or raise max_epochs")

    def _shard_order(self, tier: int, shard: int, samples: int) -> ShardOrder:
        _, _, sequence_length, _, order, _, _, cache = self._arguments
        files = self._files[tier]
        if not files.one_sequence_each(shard):
            raise SnowError(f"{files.prefix(shard)} has documents of several sequences, which megatron-core would shuffle one by one: use the order of our own")
        first, end = int(files.first_document[shard]), int(files.first_document[shard + 1])
        used = files.lengths[first : first + round(order.train_share * float(end - first))]
        return ShardOrder(used, sequence_length, samples, order.seed, IndexCache(cache), f"{files.fingerprint}/{shard}/{len(used)}")

    def __reduce__(self) -> tuple:
        return MegatronSamples, self._arguments

    def __len__(self) -> int:
        return self._arguments[3]

    def _rows(self, i: int) -> tuple[TierFiles, Integers, Integers]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        number = int(self.dataset_index[i])
        rows, epochs = self._orders[number].rows(int(self.dataset_sample_index[i]))
        tier, shard = self._shards[number]
        rows[:, 0] += self._files[tier].first_document[shard]
        return self._files[tier], rows, epochs

    def __getitem__(self, i: int) -> npt.NDArray[np.int64]:
        """The tokens of sample ``i``, int64 [sequence_length + 1]. Raises IndexError outside 0 .. len - 1."""
        return self.sample(i).tokens

    def sample(self, i: int) -> Sample:
        """Sample ``i``: its tokens, where each document's piece begins, where each comes from. Raises IndexError outside 0 .. len - 1."""
        files, rows, epochs = self._rows(i)
        tokens, boundaries, places = files.read(rows)
        sample = Sample(tokens, boundaries, lambda: files.spans(places, rows, epochs.tolist()))
        return sample if self._transform is None else self._transform(sample)

    def origin(self, i: int) -> list[Span]:
        """Where sample ``i`` comes from, in the sample's order; reads no tokens."""
        files, rows, epochs = self._rows(i)
        return files.spans(files.place(rows), rows, epochs.tolist())

    def files(self, i: int) -> list[list[FilePiece]]:
        """The corpus's files that each piece of sample ``i`` is made of. Raises SnowError where the tokenize arrow's rows are missing."""
        return [self._tables.files(span) for span in self.origin(i)]

    def occurrences(self, tier: str, documents: Integers) -> Found:
        """As ``PhaseDataset.occurrences``."""
        number = [files.tier for files in self._files].index(tier)
        bounds = self._files[number].first_document
        found: dict[int, Found] = {}
        for dataset, (of, shard) in enumerate(self._shards):
            if of == number:
                own = documents[(documents >= bounds[shard]) & (documents < bounds[shard + 1])] - bounds[shard]
                found[dataset] = self._orders[dataset].occurrences(own[own < len(self._orders[dataset].lengths)])

        def run(first: int, count: int) -> Found:
            datasets, indices = self.dataset_index[first : first + count], self.dataset_sample_index[first : first + count]
            hits, tokens = np.zeros(count, bool), np.zeros(count, np.int64)
            for dataset, known in found.items():
                its = np.flatnonzero(datasets == dataset)
                hit, counted = looked_up(known, indices[its])
                hits[its[hit]], tokens[its[hit]] = True, counted
            return first + np.flatnonzero(hits), tokens[hits]

        return listed(len(self), run)

    def counts(self, part: range | None = None) -> dict[str, int]:
        """Samples the phase takes from each tier, or those of ``part`` (consecutive ones) do."""
        start, stop = (0, len(self)) if part is None else (part.start, part.stop)
        taken = np.bincount(self.dataset_index[start:stop], minlength=len(self._shards)).tolist()
        return {files.tier: sum(count for (of, _), count in zip(self._shards, taken, strict=True) if of == tier) for tier, files in enumerate(self._files)}

    def leaves(self) -> dict[str, int]:
        """Tiers that run out within the phase: none does in this order."""
        return {}

    def epochs(self, tier: str) -> float:
        """Passes over ``tier`` that the phase makes, on average over the tokens it may use."""
        number = [files.tier for files in self._files].index(tier)
        tokens = sum(order.tokens for (of, _), order in zip(self._shards, self._orders, strict=True) if of == number)
        return self.counts()[tier] * self._arguments[2] / tokens
