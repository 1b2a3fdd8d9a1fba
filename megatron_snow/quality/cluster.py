"""Scoring the tier's shards on several machines, by the executors that the corpus's steps run on: a task a shard.

Tasks leave part files where scoring on this machine looks for them, so that what follows is the same; a task's window that was
done before its job was lost is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from megatron_snow.artifacts.documents import shards
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.corpus.engine import run_steps
from megatron_snow.corpus.executors import LocalExecutor
from megatron_snow.quality.crew import EncoderCrew
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.heads import Heads
from megatron_snow.quality.scoring import score_shards, scored_folder
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.quality.survey import Sample
from megatron_snow.tokens.encoder import load_tokenizer


class ScoreStep(PipelineStep):  # type: ignore[misc] # datatrove ships no types
    """Scores the shard of a task."""

    type = "ANNOTATOR"
    name = "scores"

    def __init__(
        self, settings: AnnotateSettings, tuned: str | None, kind: str, heads: Heads, standard: Path, sample: Sample, tokenizer: Path, folder: Path
    ) -> None:
        """``tuned``: the fine-tuned encoder's folder, if any. ``kind``: of the encoder that made the vectors the heads learned from."""
        super().__init__()
        self.settings, self.tuned, self.kind, self.heads = settings, tuned, kind, heads
        self.standard, self.sample, self.tokenizer, self.folder = standard, sample, tokenizer, folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Score shard ``rank``; yields nothing. Raises SnowError where this machine's encoder is of another kind."""
        encoder = SectionEncoder(self.settings, self.tuned)
        if encoder.kind != self.kind:
            raise SnowError(
                f"annotate: the heads were trained on vectors of {self.kind}, this job's encoder is {encoder.kind}: scores would not be comparable; run the "
                "recipe on a machine of the jobs' kind, or set annotate.device and annotate.precision"
            )
        with EncoderCrew(self.settings, encoder, self.tuned) as crew, Progress("scoring", None, "files") as bar:
            for _ in score_shards(crew, self.heads, [shards(self.standard)[rank]], self.sample, load_tokenizer(self.tokenizer), self.folder, bar):
                pass
        yield from ()


def score_elsewhere(
    settings: AnnotateSettings, tuned: str | None, crew: EncoderCrew, heads: Heads, standard: Path, sample: Sample, tokenizer: Path, parts: Path
) -> None:
    """Score all shards on ``settings.executor``, where that is not this machine; the parts are then where ``score_tier`` looks for them.

    Raises SnowError where tasks are lost again and again, or the executor is not to be had.
    """
    executor = settings.executor
    if isinstance(executor, LocalExecutor):
        return
    folder = scored_folder(crew, heads, parts).resolve()
    there = settings.model_copy(update={"workers": settings.workers or executor.cpus})
    step = ScoreStep(there, tuned, crew.encoder.kind, heads, standard.resolve(), sample, tokenizer.resolve(), folder)
    run_steps([step], len(shards(standard)), 1, folder / "logs", "scoring", executor, "annotate.executor")
