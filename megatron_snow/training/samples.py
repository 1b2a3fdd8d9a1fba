"""The samples a phase trains on and is validated on, as functions of the recipe and the seed."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.blend.cache import IndexCache, cache_folder
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.documents import rows_path
from megatron_snow.blend.fim import FillInTheMiddle
from megatron_snow.blend.languages import LanguageTable
from megatron_snow.blend.megatron import MegatronSamples
from megatron_snow.blend.sample import Sample
from megatron_snow.blend.shards import TierFiles
from megatron_snow.blend.stream import DocumentStream
from megatron_snow.training.settings import PhaseSettings, TrainSettings

HELDOUT = "heldout"
"""The tier whose languages are validated apart."""


def order_seed(seed: int, phase: str) -> int:
    """The seed of a phase's order: 60 bits of the digest of the recipe's seed and the phase's name.

    With the recipe's seed alone a tier used in two phases would be replayed from its first sample on.
    """
    return int(digest([seed, phase])[:15], 16)


def phase_samples(
    name: str, phase: PhaseSettings, tokens: Path, seed: int, index_cache: str | None = None, tokenizer: Path | None = None
) -> PhaseDataset | MegatronSamples:
    """Every sample of every step of the phase called ``name``, in an order of its own (``order_seed``).

    ``tokenizer``: the tokenizer arrow's folder, where the phase asks for fill in the middle.

    Raises:
        SnowError: where a tier is missing, empty, or would be repeated more than ``max_epochs`` allows, or fill in the middle lacks its tokenizer.
    """
    rounding = phase.tokens_before(phase.steps) / phase.tokens  # whole steps may ask for a little more than the budget says
    allowed = {tier: phase.mixture.max_epochs.get(tier, phase.max_epochs) * rounding for tier in phase.mix}
    order, transform, cache = order_seed(seed, name), None, cache_folder(index_cache)
    if phase.fim is not None:
        if tokenizer is None:
            raise SnowError(f"phase {name} asks for fim, which needs the tokenizer; give the tokenizer arrow's folder, or leave fim out")
        transform = FillInTheMiddle(phase.fim, tokens, tokenizer, order)
    if (megatron := phase.mixture.megatron) is not None:
        return MegatronSamples(tokens, phase.mix, phase.sequence, phase.samples, megatron, allowed, transform=transform, cache=cache)
    return PhaseDataset(tokens, phase.mix, phase.sequence, phase.samples, order, allowed, transform=transform, cache=cache, mixture=phase.mixture)


def validation_samples(train: TrainSettings, phase: PhaseSettings, tokens: Path, seed: int) -> dict[str, PhaseDataset]:
    """Tier -> the sequences it is validated on: the first of a pass over it, the same in every phase. Raises SnowError where a tier is missing."""
    cache = cache_folder(train.index_cache)
    return {tier: PhaseDataset(tokens, {tier: 1.0}, phase.sequence, train.validation.samples, seed, cache=cache) for tier in train.validated(phase)}


class LanguageSamples:
    """The first ``count`` samples of one language of a tier (``training.batches.Samples``)."""

    def __init__(self, stream: DocumentStream, count: int) -> None:
        self._stream, self._count = stream, count

    def __len__(self) -> int:
        return self._count

    def sample(self, i: int) -> Sample:
        """Sample ``i``, of documents of this language alone."""
        return self._stream.read(i)

    def streams(self) -> list[tuple[DocumentStream, int]]:
        """What it reads from and how many samples: as ``PhaseDataset.streams``, for building indices ahead."""
        return [(self._stream, self._count)]


def heldout_languages(train: TrainSettings, phase: PhaseSettings, tokens: Path, seed: int) -> tuple[dict[str, LanguageSamples], str]:
    """The held-out tier's largest languages, most tokens first, and what each is validated on: the same in every phase of one ``sequence``.

    Also what is to be said of those that are left out, ``""`` for none: a language is left out where a pass over it is shorter
    than its samples, all of them where the tokens came without the rows that name languages. Raises SnowError where a row is damaged.
    """
    settings = train.validation
    if not settings.languages or HELDOUT not in train.validated(phase):
        return {}, ""
    files = TierFiles(tokens, HELDOUT, IndexCache(cache_folder(train.index_cache)))
    if not rows_path(files.prefix(0)).exists():
        return {}, f"no language of {HELDOUT} is validated apart: its tokens came without the rows that name languages, which the tokenize arrow writes"
    table, needed = LanguageTable(files), settings.per_language * phase.sequence
    sizes = dict(zip(table.names, table.tokens, strict=True))
    largest = sorted((language for language in sizes if sizes[language]), key=lambda language: (-sizes[language], language))[: settings.languages]
    chosen = table.select(language for language in largest if sizes[language] >= needed)
    streams = {language: DocumentStream(files, f"{HELDOUT}/{language}", phase.sequence, seed, selection) for language, selection in chosen.items()}
    small = ", ".join(f"{language} {sizes[language]:,}" for language in largest if language not in chosen)
    said = f"languages of {HELDOUT} not validated apart, with fewer tokens than the {needed:,} that train.validation takes of each: {small}"
    return {language: LanguageSamples(stream, settings.per_language) for language, stream in streams.items()}, said if small else ""
