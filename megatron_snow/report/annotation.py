"""The parts of annotate/summary.json that the report shows (``quality.annotator`` says what they mean)."""

from __future__ import annotations

from pydantic import Field, model_validator

from megatron_snow.report.inputs import Read
from megatron_snow.report.summaries import Snippet


class LabelledSource(Read):
    """One source of positives, or the negatives."""

    kind: str
    stands_for: str
    asked: int
    found: int


class Side(Read):
    """Training or validation part of the labelled files."""

    positives: int
    negatives: int
    repositories: int


class Labelled(Read):
    """What the annotator learned from."""

    sources: list[LabelledSource]
    training: Side
    validation: Side


class LanguageAuc(Read):
    """ROC-AUC among a language's validation files."""

    auc: float
    standard_error: float
    positives: int
    negatives: int


class CalibrationBin(Read):
    """Held-out files whose predicted probability lies in a bin."""

    lowest: float = Field(alias="from")
    highest: float = Field(alias="to")
    files: int
    predicted: float
    """Mean of the predictions."""
    observed: float
    """Share of positives."""


class Calibration(Read):
    """Whether a predicted probability is the share of positives among files with that prediction."""

    brier: float
    error: float
    """Mean distance of predicted and observed, weighted by files."""
    bins: list[CalibrationBin]
    cross_fitted: bool = True
    """Whether files were judged by a calibration fitted to others."""


class Validation(LanguageAuc):
    """ROC-AUC on repositories the annotator has not seen."""

    points: list[tuple[float, float]]
    calibration: Calibration | None = None
    spearman: float | None = None
    """Of score and label, where the annotator is a regression."""
    rmse: float | None = None
    within_languages: float | None = None
    languages: dict[str, LanguageAuc]


class Histogram(Read):
    """Files by score: counts of each language between edges."""

    edges: list[float] = Field(min_length=2)
    languages: dict[str, list[int]]

    @model_validator(mode="after")
    def _one_count_a_bin(self) -> Histogram:
        if any(len(counts) != len(self.edges) - 1 for counts in self.languages.values()):
            raise ValueError(f"{len(self.edges)} edges do not fit the counts")
        return self


class Selected(Read):
    """What was taken of one language."""

    files: int
    tokens: int
    mix: float
    target: int
    selected: int
    selected_tokens: int
    threshold: float | None
    at_threshold: int | None = None
    """Files that have exactly the threshold's score."""
    at_threshold_selected: int | None = None


class ScoredFile(Snippet):
    """An example file with its score."""

    language: str
    score: float
    tokens: int
    selected: bool


class Decile(Read):
    """A tenth of the scored files."""

    lowest: float = Field(alias="from")
    highest: float = Field(alias="to")
    files: int
    examples: list[ScoredFile]


class Encoder(Read):
    """The frozen encoder under the annotator's head."""

    name: str
    pooling: str
    section: int
    precision: str
    width: int
    tuned: bool = False


class Head(Read):
    """What stands on the encoder."""

    task: str
    heads: list[str]
    """``*`` is the shared one, others are a language's own."""
    calibration: str


class HardNegatives(Read):
    """A round of files that the annotator took for good and were not."""

    round: int
    added: int
    auc: float


class Repetition(Read):
    """The token budget as a training horizon over so many passes."""

    horizon: int
    times: float
    unique: int


class Annotation(Read):
    """annotate/summary.json."""

    encoder: Encoder
    head: Head | None = None
    labelled: Labelled
    losses: list[float]
    validation_losses: list[float] = []  # noqa: RUF012 - frozen
    best_epoch: int | None = None
    """From 1: the epoch whose head is kept."""
    rounds: list[HardNegatives] = []  # noqa: RUF012 - frozen
    repetition: Repetition | None = None
    validation: Validation
    histogram: Histogram
    selection: dict[str, Selected]
    deciles: list[Decile]
