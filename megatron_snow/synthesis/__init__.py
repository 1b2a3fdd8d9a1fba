"""High-quality tier -> synthetic tier: documents asked of language models, seeded by good code, and checked."""

from megatron_snow.synthesis.arrow import synthesize
from megatron_snow.synthesis.settings import LocalServerSettings, SynthesizeSettings

__all__ = ["LocalServerSettings", "SynthesizeSettings", "synthesize"]
