"""First pass over the standard tier: how much there is of each language, and which files are labelled and scored.

One pass, streaming; memory is the drawn names. Every draw is by hash of seed and name (``draw``), so that the survey of a
corpus cut into other shards is the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.quality.draw import KEY_SPACE, Draw, apportion, draw_key
from megatron_snow.quality.heuristics import documented_functions, looks_cared_for
from megatron_snow.quality.jsonl import row_names
from megatron_snow.quality.judged import judged_high
from megatron_snow.quality.scored import scored_names
from megatron_snow.quality.settings import (
    AnnotateSettings,
    FunctionPositives,
    HeuristicPositives,
    JsonlPositives,
    JudgedPositives,
    PositiveSource,
    RepositoryPositives,
    ScoredPositives,
)


@dataclass(frozen=True)
class Sample:
    """The documents to score: the names drawn, or, where no number caps them, every one whose hash falls into the fraction."""

    seed: int
    fraction: float
    count: int
    names: frozenset[str] | None

    def __contains__(self, name: str) -> bool:
        return _in_fraction(self.seed, self.fraction, name) if self.names is None else name in self.names


def _in_fraction(seed: int, fraction: float, name: str) -> bool:
    return fraction == 1 or draw_key(seed, "fraction", name) < fraction * KEY_SPACE


@dataclass(frozen=True)
class Survey:
    """What the first pass found."""

    files: dict[str, int]
    """Files of each language in the standard tier."""
    bytes: dict[str, int]
    """UTF-8 bytes of each language in the standard tier."""
    positives: tuple[frozenset[str], ...]
    """For each source of positives the names drawn: document ids, rows of a jsonl file, or files from outside that people judged. Disjoint."""
    negatives: frozenset[str]
    """Document ids; none of them is a positive."""
    pool: frozenset[str]
    """Document ids to look for hard negatives among; neither positive nor negative."""
    sample: Sample

    def labelled(self, settings: AnnotateSettings) -> int:
        """Files that ``labelled.read_labelled`` gives, as far as is known before it reads them."""
        return sum(map(len, self.positives)) + len(self.negatives) + len(self.pool) + (settings.labels.count if settings.labels else 0)


def _qualifies(document: Document, source: PositiveSource, scored: frozenset[str]) -> bool:
    match source:
        case ScoredPositives():
            return document["id"] in scored
        case RepositoryPositives():
            return any(fnmatchcase(f"{document['repository']}/{document['path']}", glob) for glob in source.globs)
        case HeuristicPositives():
            return looks_cared_for(document, source)
        case FunctionPositives():
            return document["language"] == "Python" and bool(documented_functions(document["text"], source))
        case JsonlPositives() | JudgedPositives():
            return False  # their names are known before the pass


class _Draws:
    """The running draws of one pass."""

    def __init__(self, settings: AnnotateSettings, seed: int, standard: Path) -> None:
        self._settings, self._seed = settings, seed
        sources = () if settings.labels else settings.positives
        self._sources = sources
        self._scored = [scored_names(source, index) if isinstance(source, ScoredPositives) else frozenset() for index, source in enumerate(sources)]
        self._positives = [Draw(source.count, seed, f"positives[{index}]") for index, source in enumerate(sources)]
        spare = sum(source.count for source in sources if not isinstance(source, JsonlPositives))  # some negatives turn out to be drawn as positives
        self._pool_size = settings.hard_negatives.pool if settings.hard_negatives else 0
        self._negatives = Draw(settings.negatives + spare + self._pool_size, seed, "negatives")
        self._sampled: dict[str, Draw] = {}
        self._eligible: Counter[str] = Counter()
        for index, source in enumerate(sources):
            if isinstance(source, JsonlPositives | JudgedPositives):
                for name in row_names(source, index) if isinstance(source, JsonlPositives) else judged_high(source, index, standard):
                    self._positives[index].offer(name)

    def offer(self, document: Document) -> None:
        name, language, settings = document["id"], document["language"], self._settings
        for draw, source, scored in zip(self._positives, self._sources, self._scored, strict=True):
            if not isinstance(source, JsonlPositives | JudgedPositives):
                draw.offer(name, lambda source=source, scored=scored: _qualifies(document, source, scored))  # type: ignore[misc]
        if self._sources:
            self._negatives.offer(name)
        if not _in_fraction(self._seed, settings.score_fraction, name):
            return
        self._eligible[language] += 1
        if settings.max_documents is not None:
            self._sampled.setdefault(language, Draw(settings.max_documents, self._seed, "sample")).offer(name)

    def positives(self) -> tuple[frozenset[str], ...]:
        taken: set[str] = set()
        result = []
        for index, (draw, source) in enumerate(zip(self._positives, self._sources, strict=True)):
            names = frozenset(draw.names()) - taken
            if not names:
                raise SnowError(f"annotate.positives[{index}] ({source.kind}) found no positive file in the corpus; change or remove it: {source!r}")
            taken |= names
            result.append(names)
        return tuple(result)

    def negatives(self, positives: tuple[frozenset[str], ...]) -> tuple[frozenset[str], frozenset[str]]:
        """The negatives, and the pool that comes behind them in the draw."""
        if not self._sources:
            return frozenset(), frozenset()
        taken = frozenset().union(*positives)
        free = [name for name in self._negatives.names() if name not in taken]
        count = self._settings.negatives
        if not free:
            raise SnowError(
                "annotate: every file of the standard tier is a positive, none is left as a negative; draw fewer positives (count) or give a larger corpus"
            )
        if self._pool_size and not free[count:]:
            raise SnowError(f"annotate.hard_negatives: the corpus has no file left beside {count} negatives; lower annotate.negatives or leave the rounds out")
        return frozenset(free[:count]), frozenset(free[count : count + self._pool_size])

    def sample(self) -> Sample:
        total, cap, fraction = self._eligible.total(), self._settings.max_documents, self._settings.score_fraction
        if not total:
            raise SnowError(f"annotate.score_fraction is {fraction}, and no file of the standard tier falls into it; raise it")
        if cap is None:
            return Sample(self._seed, fraction, total, None)
        shares = apportion(cap, self._eligible)
        names = frozenset(name for language, draw in self._sampled.items() for name in draw.names()[: shares[language]])
        return Sample(self._seed, fraction, len(names), names)


def take_survey(settings: AnnotateSettings, seed: int, standard: Path) -> Survey:
    """Read the standard tier once. Raises SnowError where it is empty, a source has no positive, nothing is left to be negative, or nothing is to be scored."""
    if not settings.positives and settings.labels is None:
        raise SnowError("annotate.positives is empty: name a source of high-quality files (kind: jsonl, repositories, heuristic, functions, scored or judged)")
    draws = _Draws(settings, seed, standard)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for document in track(read_documents(standard), "surveying the standard tier", unit="files"):
        files[document["language"]] += 1
        sizes[document["language"]] += len(document["text"].encode("utf-8", "surrogatepass"))
        draws.offer(document)
    if not files:
        raise SnowError(f"the standard tier {standard} holds no document: there is nothing to annotate; look at the corpus arrow's drop counts")
    positives = draws.positives()
    return Survey(dict(sorted(files.items())), dict(sorted(sizes.items())), positives, *draws.negatives(positives), draws.sample())
