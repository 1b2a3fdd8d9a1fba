"""What a model pays where its last phase did not aim: bits per byte on the tiers it was trained on, by language; and the annotator's own measure.

The texts are a sample of each tier's documents, which training may have read. So the numbers are not how well the model does on new code (that is the
held-out tier's), but what a phase gains and loses on each tier and language: the phases of a recipe are measured on the same texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.evaluation import heldout
from megatron_snow.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from megatron_snow.evaluation.language_model import LanguageModel


def off_target(settings: EvaluateSettings, seed: int, lm: LanguageModel, tiers: Mapping[str, Path], work: Path) -> dict[str, dict[str, float]]:
    """Tier -> language (``all`` too) -> bits per byte, of ``settings.tier_bytes`` a language at most; empty where that is 0.

    Writes ``work``/off_target.jsonl, a row a text (``likelihood.Scored``, ``set``: the tier). Raises SnowError where a tier holds no text.
    """
    from megatron_snow.evaluation.likelihood import Scored, by_language, text_rows

    if not settings.tier_bytes:
        return {}
    rows: list[Scored] = []
    for name, folder in tiers.items():
        texts = heldout.sample(folder, seed, settings.tier_bytes, settings.document_bytes)
        rows += text_rows(lm, name, texts, settings.overlap, settings.batch_tokens, f"texts of {name}")
    write_atomically(work / "off_target.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return {name: by_language([row for row in rows if row["set"] == name]) for name in tiers}


def annotator(artefact: Path) -> dict[str, float]:
    """ROC-AUC on unseen repositories and its standard error, as the annotate ``artefact`` says. Raises SnowError where it does not."""
    path = artefact / "summary.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())["validation"]
        return {"roc_auc": float(found["auc"]), "standard_error": float(found["standard_error"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnowError(f"cannot read the annotator's ROC-AUC from {path} ({error!r}); run `snow annotate` again") from error
