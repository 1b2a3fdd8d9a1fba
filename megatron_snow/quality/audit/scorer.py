"""A trained annotator, read back from its artefact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import Manifest, read_manifest
from megatron_snow.artifacts.progress import Progress
from megatron_snow.quality.crew import EncoderCrew
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.heads import Heads, load_heads
from megatron_snow.quality.settings import AnnotateSettings


def annotate_manifest(folder: Path) -> Manifest:
    """The manifest of an annotate artefact. Raises SnowError where the folder is none."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.arrow != "annotate":
        raise SnowError(f"{folder} is no finished annotate artefact; run 'snow annotate' first, or name the folder it made (3-annotate)")
    return manifest


class Scorer:
    """Scores texts as the annotator in ``folder`` scored its tier, to the bit on the same kind of device.

    Raises SnowError where the folder is no annotate artefact, or its encoder cannot be had.
    """

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        self.manifest = annotate_manifest(folder)
        try:
            self.settings = AnnotateSettings.model_validate({**self.manifest.settings, "workers": workers})
        except ValidationError as error:
            raise SnowError(f"{folder} was made by another version of this program ({error.errors()[0]['msg']}); run 'snow annotate' again") from error
        self.heads: Heads
        self.heads, self.about = load_heads(folder / "head.safetensors")
        tuned = str(folder / "encoder") if self.settings.fine_tune else None
        self._crew = EncoderCrew(self.settings, SectionEncoder(self.settings, tuned), tuned)

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._crew.__exit__(kind, value, trace)

    @property
    def crew(self) -> EncoderCrew:
        """The encoder, for vectors of the caller's own."""
        return self._crew

    def embed(self, texts: Sequence[str], what: str) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of all sections, float32 [sections, width], and the number of sections of each text; ``what`` is said beside the progress."""
        sections = self._crew.encoder.sections(list(texts))
        with Progress(what, sum(map(len, sections)), "sections") as bar:
            vectors = self._crew.embed([section for found in sections for section in found], bar.advance)
        return vectors, np.array([len(found) for found in sections], dtype=np.int64)

    def scores(self, texts: Sequence[str], languages: Sequence[str], what: str) -> np.ndarray:
        """Score of each text, float64."""
        if not texts:
            return np.empty(0)
        return self.heads.file_scores(*self.embed(texts, what), languages)
