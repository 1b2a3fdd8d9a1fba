"""How often a phase repeats the documents of each tier, known before it starts."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.training.settings import PhaseSettings

_ROUNDING = 1.01  # whole steps round a phase's tokens up, by under 1 % in any run of a hundred steps


def unique_tokens(tokens: Path, tier: str) -> int:
    """Tokens of a tier on disk. Raises SnowError where the tier is missing."""
    prefixes = sorted(path.with_suffix("") for path in (tokens / tier).glob("*.idx"))
    if not prefixes:
        there = ", ".join(sorted(path.name for path in tokens.iterdir() if path.is_dir())) if tokens.is_dir() else "nothing"
        raise SnowError(f"there is no tier {tier!r} in {tokens} (there is: {there}): tokenize it, or take it out of the recipe")
    data = [IndexedDataset(prefix) for prefix in prefixes]
    return sum(one.bin_bytes // one.dtype.itemsize for one in data)


def check_passes(name: str, phase: PhaseSettings, tokens: Path) -> dict[str, float]:
    """Passes over each tier of the blend that the phase needs.

    Raises:
        SnowError: where a tier is missing, empty, or would be repeated more than ``max_epochs`` allows.
    """
    passes = {}
    for tier in phase.blend:
        unique = unique_tokens(tokens, tier)
        if unique == 0:
            raise SnowError(f"tier {tier!r} in {tokens} holds no tokens: the arrow that selects it kept nothing; loosen its settings")
        needed = phase.steps * phase.tokens_per_step * phase.share(tier)
        passes[tier] = needed / unique
        if passes[tier] > phase.max_epochs * _ROUNDING:
            raise SnowError(
                f"phase {name!r} would repeat tier {tier!r} {passes[tier]:.1f} times ({needed:.0f} tokens wanted, {unique} there), "
                f"max_epochs is {phase.max_epochs:g}: lower the phase's tokens, change its blend, or raise max_epochs"
            )
    return passes
