"""An annotator's heads: one for all languages, and where asked for one for each language that has labels enough.

Stack-Edu has a classifier for each language; the paper trains one. Scores of different heads are on scales of their own, which
does no harm where files are ranked within a language. Kept as ``head.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import canonical_json
from megatron_snow.artifacts.settings import digest as digest_of
from megatron_snow.quality.calibration import Calibrator
from megatron_snow.quality.head import LinearHead

SHARED = "*"
"""Name of the head for every language that has none of its own."""
_ABOUT = "annotator"  # key of the metadata


@dataclass(frozen=True)
class Heads:
    """Heads and calibrators by language."""

    heads: dict[str, LinearHead]
    """``SHARED`` always."""
    calibrators: dict[str, Calibrator] = field(default_factory=dict)
    """Empty, or ``SHARED`` and those of languages with a head of their own and held-out files enough."""

    def file_scores(self, vectors: np.ndarray, counts: np.ndarray, languages: Sequence[str]) -> np.ndarray:
        """Scores, float64 [files]; ``vectors`` float32 [sections, width], ``counts`` int [files] of consecutive rows each."""
        result = np.empty(len(counts))
        names = self.used_for(languages)
        for name in dict.fromkeys(names.tolist()):
            part = names == name
            result[part] = self.heads[name].file_scores(vectors[np.repeat(part, counts)], counts[part])
        return result

    def probability(self, scores: np.ndarray, languages: Sequence[str]) -> np.ndarray | None:
        """Calibrated scores, float64 [files]; None where nothing is calibrated.

        NaN where a language's own head has no calibrator: its scores are on another scale than those that the shared one was fitted on.
        """
        if not self.calibrators:
            return None
        result = np.full(len(scores), np.nan)
        names = self.used_for(languages)
        for name in dict.fromkeys(names.tolist()):
            if name in self.calibrators:
                result[names == name] = self.calibrators[name](scores[names == name])
        return result

    def used_for(self, languages: Sequence[str]) -> np.ndarray:
        """Name of the head that scores each file, object [files]."""
        return np.array([language if language in self.heads else SHARED for language in languages], dtype=object)

    @property
    def digest(self) -> str:
        """Changes with anything that changes a score or a probability."""
        calibrators = {name: [one.kind, one.knots.tolist(), one.values.tolist()] for name, one in self.calibrators.items()}
        return digest_of([{name: [one.weight.tolist(), one.bias, one.task] for name, one in self.heads.items()}, calibrators])

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write with ``about`` (encoder, pooling, section, ...) as metadata, as one JSON value: the format does not keep the order of several."""
        from safetensors.numpy import save

        names = list(self.heads)
        tensors = {
            "weight": np.stack([self.heads[name].weight.astype(np.float32) for name in names]),
            "bias": np.array([self.heads[name].bias for name in names], dtype=np.float32),
        }
        for number, (_, one) in enumerate(self.calibrators.items()):
            tensors |= {f"calibrator.{number}.knots": one.knots, f"calibrator.{number}.values": one.values}
        written = {
            **about,
            "heads": names,
            "task": self.heads[SHARED].task,
            "calibrators": [[name, one.kind] for name, one in self.calibrators.items()],
        }
        write_atomically(path, save(tensors, metadata={_ABOUT: canonical_json(written)}))


def load_heads(path: Path) -> tuple[Heads, dict[str, Any]]:
    """Saved heads and what was written about them. Raises SnowError where the file is none of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()[_ABOUT])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            heads = {name: LinearHead(weight[i], float(bias[i]), about["task"]) for i, name in enumerate(about.pop("heads"))}
            calibrators = {
                name: Calibrator(kind, file.get_tensor(f"calibrator.{i}.knots"), file.get_tensor(f"calibrator.{i}.values"))
                for i, (name, kind) in enumerate(about.pop("calibrators"))
            }
            if SHARED not in heads:
                raise KeyError("no head for all languages")
        return Heads(heads, calibrators), about
    except (OSError, SafetensorError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SnowError(f"{path} is not an annotator's head ({error}); delete its folder and run annotate again") from error
