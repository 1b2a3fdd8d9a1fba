"""The annotate arrow: a BERT-style quality annotator, its scores of the standard tier, and the high-quality tier it selects.

Reading order: settings, draw, survey, labelled, heuristics, sections, pooling, encoder, crew, head, heads, calibration, training, fine_tune, scoring,
selection, validation, annotator.
"""

from megatron_snow.quality.annotator import annotate, source_fingerprint
from megatron_snow.quality.settings import AnnotateSettings

__all__ = ["AnnotateSettings", "annotate", "source_fingerprint"]
