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
from megatron_snow.quality.settings import AnnotateSettings, FunctionPositives, HeuristicPositives, JsonlPositives, PositiveSource, RepositoryPositives


@dataclass(frozen=True)
class Survey:
    """What the first pass found."""

    files: dict[str, int]
    """Files of each language in the standard tier."""
    bytes: dict[str, int]
    """UTF-8 bytes of each language in the standard tier."""
    positives: tuple[frozenset[str], ...]
    """For each source of positives the names drawn: document ids, or rows of a jsonl file. Disjoint."""
    negatives: frozenset[str]
    """Document ids; none of them is a positive."""
    sample: frozenset[str]
    """Ids of the documents to score."""


def _qualifies(document: Document, source: PositiveSource) -> bool:
    match source:
        case RepositoryPositives():
            return any(fnmatchcase(f"{document['repository']}/{document['path']}", glob) for glob in source.globs)
        case HeuristicPositives():
            return looks_cared_for(document, source)
        case FunctionPositives():
            return document["language"] == "Python" and bool(documented_functions(document["text"], source))
        case JsonlPositives():
            return False


class _Draws:
    """The running draws of one pass."""

    def __init__(self, settings: AnnotateSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        sources = settings.positives
        self._positives = [Draw(source.count, seed, f"positives[{index}]") for index, source in enumerate(sources)]
        spare = sum(source.count for source in sources if not isinstance(source, JsonlPositives))  # some negatives turn out to be drawn as positives
        self._negatives = Draw(settings.negatives + spare, seed, "negatives")
        self._sampled: dict[str, Draw] = {}
        self._uncapped: list[str] = []
        for index, source in enumerate(sources):
            if isinstance(source, JsonlPositives):
                for name in row_names(source, index):
                    self._positives[index].offer(name)

    def offer(self, document: Document) -> None:
        name, language, settings = document["id"], document["language"], self._settings
        for draw, source in zip(self._positives, settings.positives, strict=True):
            if not isinstance(source, JsonlPositives):
                draw.offer(name, lambda source=source: _qualifies(document, source))  # type: ignore[misc]
        self._negatives.offer(name)
        if draw_key(self._seed, "fraction", name) >= settings.score_fraction * KEY_SPACE:
            return
        if settings.max_documents is None:
            self._uncapped.append(name)
        else:
            self._sampled.setdefault(language, Draw(settings.max_documents, self._seed, "sample")).offer(name)

    def positives(self) -> tuple[frozenset[str], ...]:
        taken: set[str] = set()
        result = []
        for index, (draw, source) in enumerate(zip(self._positives, self._settings.positives, strict=True)):
            names = frozenset(draw.names()) - taken
            if not names:
                raise SnowError(f"annotate.positives[{index}] ({source.kind}) found no positive file in the corpus; change or remove it: {source!r}")
            taken |= names
            result.append(names)
        return tuple(result)

    def negatives(self, positives: tuple[frozenset[str], ...]) -> frozenset[str]:
        taken = frozenset().union(*positives)
        names = [name for name in self._negatives.names() if name not in taken][: self._settings.negatives]
        if not names:
            raise SnowError(
                "annotate: every file of the standard tier is a positive, none is left as a negative; draw fewer positives (count) or give a larger corpus"
            )
        return frozenset(names)

    def sample(self, files: dict[str, int]) -> frozenset[str]:
        cap = self._settings.max_documents
        if cap is None:
            return frozenset(self._uncapped)
        names = {language: draw.names() for language, draw in self._sampled.items()}
        shares = apportion(min(cap, sum(map(len, names.values()))), {language: files[language] for language in names})
        return frozenset(name for language, drawn in names.items() for name in drawn[: shares[language]])


def take_survey(settings: AnnotateSettings, seed: int, standard: Path) -> Survey:
    """Read the standard tier once. Raises SnowError where it is empty, a source has no positive, or nothing is left to be negative."""
    if not settings.positives:
        raise SnowError("annotate.positives is empty: name at least one source of high-quality files (kind: jsonl, repositories, heuristic or functions)")
    draws = _Draws(settings, seed)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for document in track(read_documents(standard), "surveying the standard tier", unit="files"):
        files[document["language"]] += 1
        sizes[document["language"]] += len(document["text"].encode("utf-8", "surrogatepass"))
        draws.offer(document)
    if not files:
        raise SnowError(f"the standard tier {standard} holds no document: there is nothing to annotate; look at the corpus arrow's drop counts")
    positives = draws.positives()
    by_name = dict(sorted(files.items()))
    return Survey(by_name, dict(sorted(sizes.items())), positives, draws.negatives(positives), draws.sample(by_name))
