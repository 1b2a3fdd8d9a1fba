"""Raw code -> standard tier and held-out set: the first arrow."""

from megatron_snow.corpus.arrow import build, source_fingerprint

__all__ = ["build", "source_fingerprint"]
