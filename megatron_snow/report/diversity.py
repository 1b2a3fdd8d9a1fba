"""The parts of synthesize/diversity.json that the report shows (``synthesis.diversity`` says what they mean)."""

from __future__ import annotations

from megatron_snow.report.inputs import Read


class Spread(Read):
    """Of a share over documents."""

    mean: float
    median: float
    p90: float


class Embedding(Read):
    """Nearest neighbours by the annotator's encoder."""

    encoder: str
    nearest: dict[str, Spread | None]
    """``synthetic to seeds`` -> cosine to the nearest document of the other set."""
    vendi: dict[str, float | None] = {}  # noqa: RUF012 - frozen
    """Set -> effective number of distinct documents."""
    histogram: dict[str, list[int]] = {}  # noqa: RUF012 - frozen
    """Pair -> documents in equal bins of cosine from 0 to 1."""


class Topics(Read):
    """Clusters of all sets' documents together."""

    clusters: int
    shares: dict[str, list[float]]
    effective: dict[str, float | None]
    """Set -> exp(entropy) of its shares."""
    words: list[list[str]]
    """Of each cluster, most telling first."""
    empty: dict[str, int] = {}  # noqa: RUF012 - frozen


class Diversity(Read):
    """How new and how varied the synthetic documents are, beside the files that seeded them and the standard tier's."""

    documents: int
    sets: list[str]
    words: int
    """In each set, for the shares of distinct n-grams."""
    distinct: dict[str, dict[str, float | None]]
    self_overlap: dict[str, Spread | None]
    seed_overlap: dict[str, Spread | None]
    embedding: Embedding | None = None
    topics: Topics | None = None
    divergence: dict[str, dict[str, float | None]] = {}  # noqa: RUF012 - frozen
    imports: dict[str, list[tuple[str, float]]] = {}  # noqa: RUF012 - frozen
    warnings: list[str] = []  # noqa: RUF012 - frozen
