"""The compiled half of this package (csrc/), under one import that says what to do where it is missing.

There is no fall-back to the Python twins in ``reference``: a run that is silently a hundred times slower helps nobody.
"""

from __future__ import annotations

from megatron_snow.artifacts.errors import SnowError

try:
    from megatron_snow._csrc import Clusters, Needles, band_keys, measure_ascii, ngrams, similarities
except ImportError as error:
    raise SnowError(f"the C++ extension megatron_snow._csrc cannot be loaded ({error}); build it with: pip install --no-build-isolation -e .") from error

__all__ = ["Clusters", "Needles", "band_keys", "measure_ascii", "ngrams", "similarities"]
