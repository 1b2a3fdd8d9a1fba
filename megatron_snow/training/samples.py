"""The samples a phase trains on and is validated on, as functions of the recipe and the seed."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.blend.cache import cache_folder
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.fim import FillInTheMiddle
from megatron_snow.blend.megatron import MegatronSamples
from megatron_snow.training.settings import PhaseSettings, TrainSettings


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
