"""What one phase of training reads: sample i of a blend of tiers, for any i at any time.

A pure function of the arguments: which process asks, in what order, after which restart, under which layout makes no
difference, and a longer phase starts with the samples of a shorter one. ``BlendSplit`` says which tier sample i comes
from and the how-manieth of that tier it is; ``DocumentStream`` says which tokens those are. Opening maps the tiers' index
files and reads the document lengths; nothing is built or stored per sample.

Documents are packed into sequences without padding and may be cut; ``sample`` gives the tokens with where each piece
begins, for whoever masks attention between documents (the paper does not say whether it does), and names each piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.index import BlendSplit
from megatron_snow.blend.sample import Sample, Span, Transform
from megatron_snow.blend.shards import TierFiles
from megatron_snow.blend.stream import DocumentStream


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

        Raises:
            SnowError: where a tier is missing or empty, a number out of range, or a tier would be repeated more often than allowed.
        """
        if sequence_length < 1 or samples < 1:
            raise SnowError(f"a phase needs at least one sample of one token, asked are {samples} of {sequence_length}")
        if not blend:
            raise SnowError("the blend names no tier; write it like {standard: 1}")
        if wrong := [f"{tier}: {weight}" for tier, weight in blend.items() if not weight > 0]:
            raise SnowError(f"the blend has {', '.join(wrong)}: weights are positive numbers; leave out a tier that should not be used")
        self._arguments = (tokens, dict(blend), sequence_length, samples, seed, dict(max_epochs or {}), transform, cache)
        self._transform, self._cache = transform, IndexCache(cache)
        self._tiers = list(blend)
        self._split = BlendSplit(list(blend.values()), seed)
        self._streams = [DocumentStream(TierFiles(Path(tokens), tier, self._cache), tier, sequence_length, seed) for tier in self._tiers]
        self._counts = dict(zip(self._tiers, self._split.counts(samples).tolist(), strict=True))
        for tier, most in (max_epochs or {}).items():
            self._check_epochs(tier, most)

    def _check_epochs(self, tier: str, most: float) -> None:
        if tier not in self._tiers:
            raise SnowError(f"max_epochs names the tier {tier!r}, the blend has {', '.join(self._tiers)}")
        if (passes := self.epochs(tier)) > most:
            stream = self._streams[self._tiers.index(tier)]
            raise SnowError(
                f"tier {tier!r} has {stream.tokens} tokens, the phase asks for {self._counts[tier] * stream.sequence_length}: {passes:.2f} passes, "
                f"max_epochs allows {most:g}; shorten the phase, lower the tier's weight or raise max_epochs"
            )

    def __reduce__(self) -> tuple:
        return PhaseDataset, self._arguments

    def __len__(self) -> int:
        return self._arguments[3]

    def _locate(self, i: int) -> tuple[DocumentStream, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        tier, index = self._split[i]
        return self._streams[tier], index

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

    def boundaries(self, i: int) -> npt.NDArray[np.int64]:
        """Where each document's piece begins in sample ``i``, with the sample's length at the end: int64 [pieces + 1]."""
        return self.sample(i).boundaries

    def counts(self) -> dict[str, int]:
        """Samples the phase takes from each tier."""
        return dict(self._counts)

    def epochs(self, tier: str) -> float:
        """Passes over ``tier`` that the phase makes, on average over its tokens."""
        stream = self._streams[self._tiers.index(tier)]
        return self._counts[tier] * stream.sequence_length / stream.tokens
