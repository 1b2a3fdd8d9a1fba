"""Settings of the annotate arrow. The defaults are the paper's chosen annotator, Ann-HQIns (arXiv 2409.02326, section 2.3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Tokens
from megatron_snow.corpus.executors import Executor, LocalExecutor


class JsonRows(Settings):
    """Rows of a file of JSON lines (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``)."""

    path: str
    """The file; a relative path is taken from where ``snow`` runs."""
    count: int = Field(ge=1)
    """How many rows to draw; all where the file has fewer."""
    columns: tuple[str, ...] = Field(default=("text",), min_length=1)
    """Joined with a blank line into the text; instruction data has for instance ``[instruction, response]``."""
    repository: str | None = None
    """Column that names the repository, for the split. None: each row is its own repository."""
    language: str | None = None
    """Column that names the language. None: the rows' language is ``unknown``."""


class JsonlPositives(JsonRows):
    """Positives from a file of JSON lines: what the paper uses."""

    kind: Literal["jsonl"] = "jsonl"


class LabelRows(JsonRows):
    """Files with a number each, from a person or a served LLM (``snow label`` writes such a file): Ann-Edu's training set."""

    label: str = "label"
    """Column with the number."""
    scale: tuple[float, float] = (0.0, 5.0)
    """Lowest and highest label: the paper's 0 to 5 (it also says 1 to 5). A score is the predicted label brought to [0, 1]: 3.5 of 5 is 0.7."""


class ScoredPositives(Settings):
    """Positives from the standard tier: files that another annotator scored high. Ann-Ins takes Ann-Edu's of 3.5 and more."""

    kind: Literal["scored"]
    path: str
    """The other run's ``3-annotate/scores.parquet``, over the same corpus."""
    least: float
    """Lowest score taken: 0.7 for the paper's 3.5 on its scale of 0 to 5."""
    count: int = Field(ge=1)
    """How many files to draw; all where fewer qualify."""


class JudgedPositives(Settings):
    """Positives that people chose: the files they labelled high, of the standard tier or from elsewhere."""

    kind: Literal["judged"]
    path: str
    """A CSV with the columns ``path`` and ``label``, as ``snow validate-annotator --labels`` takes it: 0 and 1, or any scale; a path is a document's id,
    ``repository/path``, or a file beside the CSV. Files of the held-out tier teach nothing."""
    least: float | None = None
    """Lowest label that counts as high. None: what is above the middle of the lowest and the highest label."""
    count: int = Field(ge=1)
    """How many files to draw; all where fewer are labelled high."""


class RepositoryPositives(Settings):
    """Positives from the standard tier: files of repositories that somebody vouches for.

    A stand-in for the paper's 220k high-quality open-source files: it holds each of these repositories' files for good code.
    """

    kind: Literal["repositories"]
    globs: tuple[str, ...] = Field(min_length=1)
    """Matched against ``repository/path`` (``*`` crosses slashes): ``python/cpython/*``, ``*/json/*.py``."""
    count: int = Field(ge=1)
    """How many files to draw; all where fewer match."""


class HeuristicPositives(Settings):
    """Positives from the standard tier: files that look cared for by a rule anyone can read.

    A stand-in for the paper's 220k high-quality open-source files. What the annotator learns from it is this rule, as far as
    an embedding shows it, not a reviewer's judgement: its validation ROC-AUC says how well the rule is recovered.
    """

    kind: Literal["heuristic"]
    count: int = Field(ge=1)
    """How many files to draw; all where fewer pass."""
    lines: tuple[int, int] = (30, 500)
    """Fewest and most lines, blank ones included (ours: from one worked-out function to what one sitting can read)."""
    comments: tuple[float, float] = (0.10, 0.50)
    """Least and most share of comment and docstring lines among the non-blank ones after the file's head (its licence
    notice); ours: the average of open-source projects is 0.19 (Arafat and Riehle 2009), more than half is prose or dead code."""
    longest_line: int = 120
    """Characters (ours: the longest limit in common style guides)."""
    branches: int = Field(default=3, ge=1)
    """Fewest lines of code that begin with if, for, while, switch, match or the like (ours: lists of declarations solve nothing)."""
    documented: float = 0.7
    """Python only: least share of public functions and classes with a docstring (ours; pydocstyle asks for all)."""
    exclude: tuple[str, ...] = ("*/test/*", "*/tests/*", "*/testing/*", "*test_*", "*_test.*", "*/_vendor/*", "*/vendor/*")
    """Globs on ``repository/path`` (ours: tests and copies of others' code are not what a reader learns from)."""


class FunctionPositives(Settings):
    """Positives cut out of the standard tier's Python files: one documented top-level function a file, docstring and all.

    A stand-in for the paper's 80k instruction examples (Magicoder, StarCoder2-Instruct): like those, a task stated in words
    (the docstring) and its worked-out solution (the body). Nobody wrote them as exercises.
    """

    kind: Literal["functions"]
    count: int = Field(ge=1)
    """How many functions, at most one a file; all where fewer files have one."""
    docstring: int = 120
    """Least characters of the docstring (ours: two lines, more than a title)."""
    statements: tuple[int, int] = (4, 40)
    """Fewest and most lines of the body after the docstring (ours: HumanEval's solutions have 1 to 34 lines, median 6)."""


PositiveSource = Annotated[
    JsonlPositives | RepositoryPositives | HeuristicPositives | FunctionPositives | ScoredPositives | JudgedPositives, Field(discriminator="kind")
]

_CODE = JsonlPositives(path="annotator/high_quality_code.jsonl.zst", count=220_000)  # the file is the user's; the paper's: hqcode on the hub, synthetic
_INSTRUCTIONS = JsonlPositives(path="annotator/instructions.jsonl.zst", count=80_000, columns=("instruction", "response"))  # Magicoder, StarCoder2-Instruct
_EDU = ScoredPositives(kind="scored", path="annotator/ann_edu/scores.parquet", least=0.7, count=100_000)  # Ann-Edu's of 3.5 of 5 and more

PRESETS: dict[str, dict[str, Any]] = {
    "ann_edu": {"labels": LabelRows(path="annotator/edu_labels.jsonl", count=400_000, repository="repository", language="language")},
    "ann_ins": {"positives": (_EDU, _INSTRUCTIONS.model_copy(update={"count": 100_000})), "negatives": 300_000},
    "ann_hq": {"positives": (_CODE,), "negatives": 300_000},
    "ann_hqins": {"positives": (_CODE, _INSTRUCTIONS), "negatives": 300_000},
}
"""The paper's four annotators (section 3.4 and table 4): what each learns from, with its numbers; files are the user's.

The paper changes the positives alone, so that the negatives of Ann-Ins and Ann-HQ are Ann-HQIns's 300k. Its 220k files are hqcode
(reference 39: huggingface.co/datasets/yuxiang630/hqcode). ``snow label`` makes Ann-Edu's file; its scores.parquet is what Ann-Ins reads.
"""


class HeadSettings(Settings):
    """Training of the linear head on the encoder's embeddings. The paper states none of this; "FineWeb-Edu" is arXiv 2406.17557, section 4,
    which it follows most nearly, or where that is silent its script (huggingface/cosmopedia, classification/train_edu_bert.py)."""

    epochs: int = Field(default=20, ge=1)
    """FineWeb-Edu."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """FineWeb-Edu; falls linearly to zero, as in its script. Embeddings are standardised first (ours), so that it means the same for any encoder."""
    batch: int = Field(default=256, ge=1)
    """Sections a step: FineWeb-Edu's script."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's: none stated; the trainer's default in FineWeb-Edu's script."""
    validation: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the labelled files held out, by whole repositories (ours): the 90/10 of FineWeb-Edu's script."""
    patience: int | None = Field(default=5, ge=1)
    """Training ends when the held-out loss has not fallen for so many epochs (ours); the best epoch's head is kept. None: all epochs are run."""
    calibration: Literal["none", "platt", "isotonic"] = "platt"
    """How the column ``probability`` comes from the score, on the held-out files (ours: two numbers, where isotonic regression wants a thousand files)."""
    own: int | None = Field(default=None, ge=2)
    """Languages with so many training files of each class get a head of their own (Stack-Edu: arXiv 2502.02737, section 3.4). None: one for all."""


class FineTuneSettings(Settings):
    """Training of the encoder together with a head, before the head proper is trained. The paper does not say whether it does."""

    epochs: int = Field(default=2, ge=1)
    """The fewest of the two to four of BERT's fine-tuning (Devlin et al. 2019, appendix A.3)."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """The least of Devlin et al. 2019; a tenth of the steps of warm-up (their code's), then linear to zero."""
    batch: int = Field(default=32, ge=1)
    """Sections a step: Devlin et al. 2019, the greater of their two."""
    layers: int | None = Field(default=None, ge=1)
    """Only the last so many layers are trained. None: all, embeddings included."""


class HardNegativeSettings(Settings):
    """Rounds in which random files that the annotator ranks highest join the negatives and the head is trained again (ours).

    Seed-Coder (arXiv 2506.03524, section 2.2.4) takes for its fastText models what ranks high and a second scorer finds poor; here there is none.
    Some of them are good: what a random file is worth nobody knows. Look at the ROC-AUC of the rounds, and at the examples.
    """

    rounds: int = Field(default=2, ge=1)
    """Seed-Coder's two to three, in which positives are added too."""
    pool: int = Field(default=100_000, ge=1)
    """Random files of the standard tier to look among, none of them labelled (ours: a third of the negatives)."""
    add: int = Field(default=15_000, ge=1)
    """Files that join in each round (ours: a twentieth of the negatives)."""


class RepetitionSettings(Settings):
    """A token budget as the paper's ablation states it: ``horizon`` tokens of training on ``times`` passes over the tier (4 x 12.5B is 50B seen 4 times)."""

    horizon: Tokens
    """Tokens trained on: 50B in the paper."""
    times: float = Field(ge=1)
    """Passes: the paper tries 1, 2, 3, 4 and 5, and chooses 4."""

    @property
    def unique(self) -> int:
        """Tokens of the tier."""
        return round(self.horizon / self.times)


class AnnotateSettings(Settings):
    """What makes a high-quality tier out of the standard tier."""

    preset: Literal["ann_edu", "ann_ins", "ann_hq", "ann_hqins"] | None = None
    """One of the paper's four annotators: sets ``labels``, or ``positives`` and ``negatives``, where they are not given (see ``PRESETS``)."""
    encoder: str = "Snowflake/snowflake-arctic-embed-m"
    """Any BERT-style hub name or folder with safetensors and a fast tokenizer, or ``fixture:all-MiniLM-L6-v2``: paper section 2.3."""
    pooling: Literal["auto", "cls", "mean"] = "auto"
    """How the encoder's outputs become one vector. ``auto``: as its ``1_Pooling/config.json`` says, where sentence-transformers keeps that
    (arctic-embed: cls; all-MiniLM, all-mpnet: mean); ``cls`` where it has none."""
    section: int = Field(default=512, ge=16, multiple_of=8)
    """Encoder tokens of a section, special tokens included. Not stated; 512 in FineWeb-Edu's script, arctic-embed-m's most."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The encoder's. ``auto``: bfloat16 where the device multiplies in it natively, else float32 (ours; the summary says which)."""
    batch_tokens: Tokens | None = None
    """Tokens that the encoder computes at a time (``packs``). None: 1,024 on a CPU, 32,768 on CUDA (ours, LOG.md 2026-11-26)."""
    workers: Annotated[int | None, RUNTIME] = Field(default=None, ge=1)
    """Processes that run the encoder on a CPU, each with one thread and a copy of it. None: one for each CPU. On CUDA there is one."""
    executor: Annotated[Executor, RUNTIME] = LocalExecutor()
    """Where the tier is scored: ``{kind: slurm, partition: gpu, options: {gres: "gpu:1"}}`` scores each shard in a job, as ``corpus.executor`` does.
    The process that sends the jobs embeds the labelled files, so it needs a device of the jobs' kind: vectors of another kind have other bits."""
    positives: tuple[PositiveSource, ...] = PRESETS["ann_hqins"]["positives"]
    """Sources of files labelled good: paper section 2.3, 220k code files and 80k instruction examples."""
    negatives: int = Field(default=300_000, ge=1)
    """Random files of the standard tier: paper section 2.3 ("300", which must mean 300k)."""
    labels: LabelRows | None = None
    """Files with a number each. Where given the head is a linear regression on them (Ann-Edu), and ``positives`` and ``negatives`` are not drawn."""
    hard_negatives: HardNegativeSettings | None = None
    """Rounds of harder negatives. None: random ones only, as in the paper."""
    fine_tune: FineTuneSettings | None = None
    """Training of the encoder. None: it stays frozen, as FineWeb-Edu's does."""
    head: HeadSettings = HeadSettings()
    """Training of the linear head."""
    tokens: Tokens = 12_500_000_000
    """Budget of the high-quality tier, in the recipe's tokenizer: paper section 2.3, 12.5B, seen four times in training."""
    repetition: RepetitionSettings | None = None
    """The budget as a horizon and a number of passes, instead of ``tokens``."""
    floors: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Language, by linguist's name, or ``"*"`` for all others -> least score of a file that is selected, whatever the budget, 0 to 1: 0.7 is a predicted
    label of 3.5 of 5 (Stack-Edu's is 3 of 5, for Java 2)."""
    score_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the standard tier's files that are scored and can be selected, chosen by hash of seed and id. The paper scores all."""
    max_documents: int | None = Field(default=None, ge=1)
    """At most so many files are scored, spread over languages in proportion to their files; None: no limit, as in the paper."""

    @property
    def budget(self) -> int:
        """Tokens of the high-quality tier."""
        return self.repetition.unique if self.repetition else self.tokens

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("preset"), str):
            return {**PRESETS.get(values["preset"], {}), **values}
        return values

    @field_validator("floors")
    @classmethod
    def _languages_are_known(cls, floors: dict[str, float]) -> dict[str, float]:
        if floors:
            from megatron_snow.corpus.language import unknown_language

            if wrong := unknown_language(name for name in floors if name != "*"):
                raise ValueError(wrong)
        return floors

    @model_validator(mode="after")
    def _one_of_two(self) -> AnnotateSettings:
        if self.repetition and "tokens" in self.model_fields_set:
            raise ValueError("tokens and repetition both state the budget; leave one out")
        if self.labels and self.hard_negatives:
            raise ValueError("hard_negatives are for classes; with labels the head is a regression")
        if self.labels and self.labels.scale[0] >= self.labels.scale[1]:
            raise ValueError("labels.scale is [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _ranges(self) -> AnnotateSettings:
        for source in self.positives:
            if isinstance(source, HeuristicPositives) and (source.lines[0] > source.lines[1] or source.comments[0] > source.comments[1]):
                raise ValueError("lines and comments are [least, most]")
            if isinstance(source, FunctionPositives) and source.statements[0] > source.statements[1]:
                raise ValueError("statements is [fewest, most]")
        return self
