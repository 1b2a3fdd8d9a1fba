"""The parts of the arrows' files that the report shows; each arrow's function says what its file means."""

from __future__ import annotations

from pydantic import Field

from megatron_snow.report.inputs import Read


class Snippet(Read):
    """The beginning of a file."""

    id: str
    snippet: str


class LanguageSize(Read):
    """Files of one language."""

    files: int
    bytes: int


class Inventory(Read):
    """One side of the held-out split."""

    documents: int
    bytes: int
    repositories: int
    languages: dict[str, LanguageSize]


class Cluster(Read):
    """Files that are near-duplicates of one that stays."""

    kept: str
    dropped: int


class NearDuplicates(Read):
    """What near-deduplication found."""

    clusters: int
    dropped: int
    largest: list[Cluster]


class Decontamination(Read):
    """Benchmark texts looked for, and how often each was found."""

    sought: int
    benchmarks: dict[str, int] = {}  # noqa: RUF012 - frozen
    """Benchmark -> texts of it that were looked for."""
    ignored: list[str]
    found: dict[str, int]
    """``benchmark problem what`` -> files it was found in."""


class TakenDown(Read):
    """What the take-down list met."""

    files: dict[str, int]
    """Repository -> files dropped."""
    none: list[str] = Field(alias="no file")
    """Repositories that matched no file."""


class Corpus(Read):
    """corpus/summary.json: documents in and kept, drops by reason and language, what is in the standard tier and held out."""

    entered: int = Field(alias="in")
    kept: int
    drops: dict[str, dict[str, int]]
    examples: dict[str, list[Snippet]]
    standard: Inventory
    heldout: Inventory
    licenses: dict[str, int]
    near_duplicates: NearDuplicates | None = None
    decontamination: Decontamination | None = None
    redactions: dict[str, dict[str, int]] = {}  # noqa: RUF012 - frozen
    """Placeholder -> language -> replacements in documents that passed the filters."""
    redacted_kinds: dict[str, int] = {}  # noqa: RUF012 - frozen
    """What was found -> how often."""
    refused_licenses: dict[str, int] = {}  # noqa: RUF012 - frozen
    """SPDX expression -> documents dropped for it."""
    taken_down: TakenDown | None = None


class CorpusSample(Read):
    """corpus/samples.jsonl: a document that was kept, or dropped for a reason."""

    kind: str
    reason: str
    language: str
    id: str
    license: str = ""
    text: str


class DroppedAnswer(Read):
    """An answer of the teacher that did not become a document."""

    seed_id: str
    language: str
    detail: str
    snippet: str


class AskedLanguage(Read):
    """Answers asked for in a language, and the documents they became."""

    asked: int
    accepted: int
    bytes: int


class Seeds(Read):
    """Seeds drawn from the high-quality tier, and documents that gave none, by reason."""

    drawn: int
    skipped: dict[str, int]


class Prompt(Read):
    """The prompt's name and contents' hash."""

    name: str
    sha256: str


class Style(Read):
    """Answers to one prompt."""

    asked: int
    accepted: int


class Lint(Read):
    """What a linter says of the accepted Python documents."""

    documents: int
    problems_per_100_lines: dict[str, float | None]
    kinds: dict[str, int]


class Synthesis(Read):
    """synthesize/summary.json."""

    requests: int
    answers: int
    unanswered: int
    accepted: int
    accepted_tokens: int
    prompt_tokens: int
    completion_tokens: int
    drops: dict[str, dict[str, int]]
    examples: dict[str, list[DroppedAnswer]]
    languages: dict[str, AskedLanguage]
    seeds: Seeds
    model: str
    prompt: Prompt
    ended: str
    spent: float = 0.0
    """Money, where the endpoints' prices are known."""
    styles: dict[str, Style] = {}  # noqa: RUF012 - frozen
    """Prompt -> what came of it."""
    verified: dict[str, int] | None = None
    """What running the documents' own tests ended in -> documents."""
    lint: Lint | None = None


class BitsPerByte(Read):
    """By language (and ``all``) on held-out files, and on HumanEval's canonical solutions."""

    heldout: dict[str, float | None]
    humaneval_solutions: float | None = None
    solutions: dict[str, float | None] = {}  # noqa: RUF012 - frozen
    """Benchmark -> bits per byte of its canonical solutions."""


class HumanEval(Read):
    """Greedy pass@1."""

    pass_at_1: float
    passed: int
    problems: int
    reasons: dict[str, int]


class PassAt(Read):
    """An estimate of pass@k with its 95 % interval, shares of 1."""

    score: float
    low: float | None = None
    high: float | None = None


class Benchmark(Read):
    """One benchmark, or a group of several pooled (``members``)."""

    problems: int
    samples: int
    temperature: float
    pass_at: dict[str, PassAt]
    """Number of tries -> estimate."""
    base_pass_at: dict[str, PassAt] | None = None
    """By the benchmark's first, fewer tests."""
    reasons: dict[str, int]
    """How samples end -> how many."""
    bits_per_byte: float | None = None
    """Of canonical solutions given their prompts."""
    members: list[str] = []  # noqa: RUF012 - frozen


class Completion(Read):
    """What a model wrote after a prompt."""

    prompt: str
    completion: str


class Measured(Read):
    """On how much bits per byte were measured."""

    heldout_bytes: dict[str, int]
    heldout_documents: dict[str, int]


class Results(Read):
    """evaluate/results.json."""

    bits_per_byte: BitsPerByte
    humaneval: HumanEval | None = None
    benchmarks: dict[str, Benchmark] = {}  # noqa: RUF012 - frozen
    off_target: dict[str, dict[str, float | None]] | None = None
    """Tier -> language -> bits per byte."""
    annotator: dict[str, float | None] | None = None
    completions: list[Completion]
    measured: Measured


class MetricsRow(Read):
    """train/metrics.jsonl: one logged step. A value that was not finite is None."""

    step: int
    tokens: int
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    seconds: float | None = None
    memory: int | None = None
    """Bytes of the leader (``training.watching``)."""
    mfu: float | None = None
    """Model FLOPs utilisation, where the device's peak is known."""


class ValidationRow(Read):
    """train/validation.jsonl: a tier's loss at a step, or that of one of its languages."""

    step: int
    tokens: int
    tier: str
    language: str | None = None
    loss: float | None = None


class TrainSummary(Read):
    """train/summary.json."""

    parameters: int
    vocabulary: int
    passes: dict[str, float]
    """Tier -> how often the phase went through its documents."""
    warnings: tuple[str, ...] = ()
    """What the phase's numbers are a symptom of (``training.symptoms``)."""


class TokenCounts(Read):
    """Training documents, files and tokens of a language."""

    documents: int
    files: int
    tokens: int


class TierTokens(TokenCounts):
    """The same of a tier, and by language."""

    characters_per_token: float
    languages: dict[str, TokenCounts]


class Tokenized(Read):
    """tokenize/summary.json."""

    tiers: dict[str, TierTokens]
