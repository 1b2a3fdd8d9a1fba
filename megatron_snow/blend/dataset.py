"""What one phase of training reads: sample i of a blend of tiers, for any i at any time.

A pure function of the arguments: which process asks, in what order, after which restart, under which layout makes no
difference, and a longer phase starts with the samples of a shorter one. ``Mixture`` says which tier sample i comes from
and the how-manieth of that tier it is, and the same within a tier whose languages have shares; ``DocumentStream`` says
which tokens those are. Opening reads the document lengths, or maps them from a cache; nothing is stored per sample.

Proportions: a tier's share is off by less than 1.5 samples at any prefix of the phase (1 with three tiers or fewer), a
language's by less than 1.5 samples at any prefix of its tier.

Documents are packed into sequences without padding and may be cut; ``sample`` gives the tokens with where each piece
begins, for whoever masks attention between documents (the paper does not say whether it does), and names each piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.documents import DocumentTables, FilePiece
from megatron_snow.blend.languages import LanguageTable
from megatron_snow.blend.mixture import Mixture
from megatron_snow.blend.occurrences import Found, listed, looked_up
from megatron_snow.blend.sample import Sample, Span, Transform
from megatron_snow.blend.settings import MixtureSettings
from megatron_snow.blend.shards import Integers, TierFiles
from megatron_snow.blend.stream import DocumentStream

_DEFAULT = MixtureSettings()


@dataclass(frozen=True)
class _Tier:
    """One tier: a stream of all its documents, or one a language with a mixture of them."""

    streams: dict[str, DocumentStream]
    limits: list[int | None]
    """Samples each stream may give."""
    mixture: Mixture | None

    def locate(self, index: int) -> tuple[DocumentStream, int]:
        """The stream of the tier's ``index``-th sample, and its how-manieth it is."""
        stream = 0
        if self.mixture is not None:
            stream, index = self.mixture[index]
        return list(self.streams.values())[stream], index

    def counts(self, samples: int) -> list[int]:
        """Samples each stream gives of the tier's first ``samples``."""
        return [samples] if self.mixture is None else self.mixture.counts(samples).tolist()


class PhaseDataset:
    """``len(data) == samples``; ``data[i]`` is int64 [sequence_length + 1]. Can be pickled: only the arguments travel."""

    def __init__(
        self,
        tokens: Path,
        blend: Mapping[str, float],
        sequence_length: int,
        samples: int,
        seed: int,
        max_epochs: Mapping[str, float] | None = None,
        transform: Transform | None = None,
        cache: Path | None = None,
        mixture: MixtureSettings = _DEFAULT,
    ) -> None:
        """Open a phase's tiers.

        Args:
            tokens: what the tokenize arrow wrote: ``<tier>/*.bin`` and ``*.idx``.
            blend: tier -> weight (or token budget); only ratios count.
            sequence_length: tokens the model sees; a sample has one more, for the labels.
            samples: how many the phase takes.
            seed: of the order of documents and samples.
            max_epochs: tier -> passes over it at most; a tier not named may be repeated without end.
            transform: what is done to each sample as it is read; nothing, by default.
            cache: a folder that keeps indices between runs, on any disk; none by default: they are built at each start.
            mixture: shares of languages, and what happens where a tier runs out. Its ``max_epochs`` is not read here.

        Raises:
            SnowError: where a tier is missing or empty, a number out of range, or a tier would be repeated more often than allowed.
        """
        if sequence_length < 1 or samples < 1:
            raise SnowError(f"a phase needs at least one sample of one token, asked are {samples} of {sequence_length}")
        if not blend:
            raise SnowError("the blend names no tier; write it like {standard: 1}")
        if wrong := [f"{tier}: {weight}" for tier, weight in blend.items() if not weight > 0]:
            raise SnowError(f"the blend has {', '.join(wrong)}: weights are positive numbers; leave out a tier that should not be used")
        for what, named in (("max_epochs", max_epochs or {}), ("languages", mixture.languages)):
            if unknown := [tier for tier in named if tier not in blend]:
                raise SnowError(f"{what} names the tier {unknown[0]!r}, the blend has {', '.join(blend)}")
        self._arguments = (tokens, dict(blend), sequence_length, samples, seed, dict(max_epochs or {}), transform, cache, mixture)
        self._transform, self._leave = transform, mixture.exhausted == "leave"
        self._most = dict(max_epochs or {})
        index_cache = IndexCache(cache)
        self._tiers = {tier: self._open(TierFiles(Path(tokens), tier, index_cache), mixture.languages.get(tier), samples, seed) for tier in blend}
        self._order = list(self._tiers.values())
        self._mixture = Mixture(list(blend.values()), [self._limit(tier) for tier in self._order], seed, samples)
        if len(self._mixture) < samples:
            raise SnowError(f"all tiers of the blend run out after {len(self._mixture)} of {samples} samples; shorten the phase or raise max_epochs")
        self._counts = dict(zip(self._tiers, self._mixture.counts(samples).tolist(), strict=True))
        for name in self._tiers:
            self._check_epochs(name)
        self._tables = DocumentTables(Path(tokens))

    def _open(self, files: TierFiles, shares: Mapping[str, float] | None, samples: int, seed: int) -> _Tier:
        length = self._arguments[2]
        if shares is None:
            streams = {"": DocumentStream(files, files.tier, length, seed)}
        else:
            selections = LanguageTable(files).select(shares)
            streams = {language: DocumentStream(files, f"{files.tier}/{language}", length, seed, chosen) for language, chosen in selections.items()}
        most = self._most.get(files.tier) if self._leave else None
        limits = [None if most is None else int(most * stream.tokens) // length for stream in streams.values()]
        return _Tier(streams, limits, None if shares is None else Mixture(list(shares.values()), limits, seed, samples))

    @staticmethod
    def _limit(tier: _Tier) -> int | None:
        """Samples a tier may give in all."""
        known = [limit for limit in tier.limits if limit is not None]
        return sum(known) if len(known) == len(tier.limits) else None

    def _check_epochs(self, name: str) -> None:
        if self._leave or name not in self._most:
            return
        tier, most = self._tiers[name], self._most[name]
        for (language, stream), count in zip(tier.streams.items(), tier.counts(self._counts[name]), strict=True):
            asked = count * stream.sequence_length
            if (passes := asked / stream.tokens) > most:
                whose = f"{language} in tier {name!r}" if language else f"tier {name!r}"
                raise SnowError(
                    f"{whose} has {stream.tokens} tokens, the phase asks for {asked}: {passes:.2f} passes, max_epochs allows {most:g}; "
                    f"shorten the phase, lower its {'share' if language else 'weight'}, raise max_epochs, or let it leave the blend (exhausted: leave)"
                )

    def __reduce__(self) -> tuple:
        return PhaseDataset, self._arguments

    def __len__(self) -> int:
        return self._arguments[3]

    def _locate(self, i: int) -> tuple[DocumentStream, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        tier, index = self._mixture[i]
        return self._order[tier].locate(index)

    def __getitem__(self, i: int) -> npt.NDArray[np.int64]:
        """The tokens of sample ``i``, int64 [sequence_length + 1]. Raises IndexError outside 0 .. len - 1."""
        return self.sample(i).tokens

    def sample(self, i: int) -> Sample:
        """Sample ``i``: its tokens, where each document's piece begins, where each comes from. Raises IndexError outside 0 .. len - 1."""
        stream, index = self._locate(i)
        sample = stream.read(index)
        return sample if self._transform is None else self._transform(sample)

    def origin(self, i: int) -> list[Span]:
        """Where sample ``i`` comes from, in the sample's order; reads no tokens."""
        stream, index = self._locate(i)
        return stream.spans(index)

    def files(self, i: int) -> list[list[FilePiece]]:
        """The corpus's files that each piece of sample ``i`` is made of. Raises SnowError where the tokenize arrow's rows are missing."""
        return [self._tables.files(span) for span in self.origin(i)]

    def occurrences(self, tier: str, documents: Integers) -> Found:
        """The samples that hold tokens of some documents of a tier (int64, places through all its shards), and how many tokens each."""
        one, number = self._tiers[tier], list(self._tiers).index(tier)
        found = [stream.occurrences(documents, count) for stream, count in zip(one.streams.values(), one.counts(self._counts[tier]), strict=True)]

        def run(first: int, count: int) -> Found:
            tiers, indices = self._mixture.take(first, count)
            mine = np.flatnonzero(tiers == number)
            indices = indices[mine]  # a tier's samples come in turn: they are a range
            streams: npt.NDArray[np.int32] = np.zeros(len(mine), np.int32)
            if one.mixture is not None and len(mine):
                streams, indices = one.mixture.take(int(indices[0]), len(mine))
            tokens = np.zeros(len(mine), np.int64)
            hits = np.zeros(len(mine), bool)
            for stream, known in enumerate(found):
                its = np.flatnonzero(streams == stream)
                hit, count_of = looked_up(known, indices[its])
                hits[its[hit]], tokens[its[hit]] = True, count_of
            return first + mine[hits], tokens[hits]

        return listed(len(self), run)

    def boundaries(self, i: int) -> npt.NDArray[np.int64]:
        """Where each document's piece begins in sample ``i``, with the sample's length at the end: int64 [pieces + 1]."""
        return self.sample(i).boundaries

    def counts(self, part: range | None = None) -> dict[str, int]:
        """Samples the phase takes from each tier, or those of ``part`` (consecutive ones) do."""
        if part is None:
            return dict(self._counts)
        taken = self._mixture.counts(part.stop) - self._mixture.counts(part.start)
        return dict(zip(self._tiers, taken.tolist(), strict=True))

    def language_counts(self, tier: str) -> dict[str, int]:
        """Samples the phase takes from each language of a tier that has shares of them; none for one without."""
        one = self._tiers[tier]
        return {} if one.mixture is None else dict(zip(one.streams, one.counts(self._counts[tier]), strict=True))

    def leaves(self) -> dict[str, int]:
        """Tier -> the sample from which on it gives none, for those that run out within the phase."""
        names = list(self._tiers)
        return {names[tier]: sample for tier, sample in self._mixture.leaves.items()}

    def epochs(self, tier: str) -> float:
        """Passes over ``tier`` (over the languages it has shares of) that the phase makes, on average over its tokens."""
        streams = self._tiers[tier].streams.values()
        return self._counts[tier] * self._arguments[2] / sum(stream.tokens for stream in streams)

    def streams(self) -> list[tuple[DocumentStream, int]]:
        """Every stream of the phase and how many samples it gives: what building its indices ahead goes through."""
        return [pair for name, tier in self._tiers.items() for pair in zip(tier.streams.values(), tier.counts(self._counts[name]), strict=True)]
