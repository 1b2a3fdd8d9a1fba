"""How good is an annotator, and what does it key on: ``snow validate-annotator``.

Reading order: settings, intervals, scorer, benchmarks, human, traits, edits, agreement, seeds, run.
"""

from megatron_snow.quality.audit.settings import AuditSettings

__all__ = ["AuditSettings"]
