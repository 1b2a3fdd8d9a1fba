"""The paper's three failures as numbers with thresholds: over-fitting to the high-quality tier, synthetic bias, too little diversity."""

from megatron_snow.signatures.measure import measure

__all__ = ["measure"]
