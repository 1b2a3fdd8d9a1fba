"""Synthetic against selected documents: how new they are, how varied, and what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from megatron_snow.report.charts import Line, figure, horizontal, line_chart
from megatron_snow.report.diversity import Diversity, Embedding, Spread, Topics
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.numbers import DASH, decimal, of, share, words
from megatron_snow.report.parts import Alert, grid, heat, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.rows import Value, value_chart

FILE = "diversity.json"
_TINTS = {"synthetic": 4, "seeds": 3, "standard": 1}
_PAIRS = ("own seed", "synthetic to synthetic", "synthetic to seeds", "standard to standard")  # drawn, as far as they are there
_TOPICS = 16  # clusters shown, largest first (ours)
_WORDS = 6  # of a cluster (ours)
_IMPORTS = 8  # of a set (ours)


def blocks(road: RoadView) -> list[Child]:
    """What the synthetic section shows of synthesize/diversity.json."""
    title = tag("h3", "New and varied? Synthetic files beside the ones that seeded them and the standard tier's")
    found = _read(road)
    if found is None:
        return [title, missing("diversity", "The synthesize artefact holds no diversity.json: it was not asked for, or there were too few documents.")]
    about = f"{of(found.documents, 'document')} of each set, drawn at random; the seeds are the selected files that the synthetic documents grew from."
    return [
        title,
        tag("p", about, class_="note"),
        grid([_distinct(found), _nearest(found.embedding), _divergence(found)]),
        _overlap(found),
        _topics(found.topics),
        _imports(found),
    ]


def alerts(road: RoadView) -> list[Alert]:
    """The synthesize arrow's own warnings."""
    found = _read(road)
    alarms = [str(text).partition(": ") for text in (found.warnings if found else ())]
    return [Alert(kind, f"{text[:1].upper()}{text[1:]}.", "synthetic", "synthetic files beside the ones that seeded them.") for kind, _, text in alarms]


def _read(road: RoadView) -> Diversity | None:
    artefact = road.stage("synthesize")
    return artefact.read(FILE, Diversity) if artefact else None


def _legend(names: list[str]) -> list[tuple[str, int]]:
    return [(words(name), _TINTS.get(name, 0)) for name in names]


def _distinct(found: Diversity) -> Markup:
    lines = [
        Line(words(name), [(float(n), value) for n, value in values.items() if value is not None], _TINTS.get(name, 0), marks=True)
        for name, values in found.distinct.items()
    ]
    drawing = line_chart("share of word n-grams that are distinct", lines, horizontal(0.5, 4.5), (0, 1), ("words in a row, n", "share of distinct n-grams"))
    note = f"Over {found.words:,} words of each set; the higher, the less a set repeats itself."
    return figure("Distinct n-grams", drawing, note, _legend(list(found.distinct)))


def _nearest(found: Embedding | None) -> Markup | None:
    """How alike the most alike documents are: the share of documents up to each cosine to their nearest neighbour."""
    if found is None or not found.histogram:
        return None
    shown = [pair for pair in _PAIRS if sum(found.histogram.get(pair, ()))] or list(found.histogram)[:4]
    lines = []
    for tint, pair in enumerate(shown, start=1):
        counts = found.histogram[pair]
        whole = max(sum(counts), 1)
        points = [(index / len(counts), part / whole) for index, part in enumerate(accumulate(counts, initial=0))]
        lines.append(Line(pair, points, tint))
    drawing = line_chart("cosine to the nearest document", lines, horizontal(0, 1), (0, 1), ("cosine", "share of documents with at most that"))
    note = f"Cosine to the nearest document by {found.encoder}; at 1 one says the same as the other: the further right, the more alike."
    return figure("Nearest neighbours", drawing, note, [(line.name, line.colour) for line in lines])


def _divergence(found: Diversity) -> Markup | None:
    pairs = list(dict.fromkeys(pair for values in found.divergence.values() for pair in values))
    if not pairs:
        return None
    tints = {pair: {"synthetic to standard": 4, "synthetic to seeds": 3, "standard to itself": 0}.get(pair, 1) for pair in pairs}
    rows = [(what, [Value(pair, value, tints[pair]) for pair in pairs if (value := values.get(pair)) is not None]) for what, values in found.divergence.items()]
    drawing = value_chart("divergence of the synthetic documents", rows, "bits, Jensen-Shannon", zero=True)
    note = "How unlike two sets are, 0 to 1 bit; grey: two halves of the standard tier, the noise."
    return figure("Divergence", drawing, note, list(tints.items()), lined=False)


def _overlap(found: Diversity) -> Markup:
    def row(name: str, what: str, spread: Spread | None, scale: bool = True) -> list[Child]:
        numbers = (spread.mean, spread.median, spread.p90) if spread else (None, None, None)
        return [name, what, *((share(value, 1) if scale else decimal(value)) if value is not None else DASH for value in numbers)]

    rows = [row(words(name), "of a document's word 5-grams are in another document of the set", spread) for name, spread in found.self_overlap.items()]
    told = {"lines": "of the seed's lines' 5-grams are in the document", "file": "of the document's 5-grams are in its seed's file"}
    rows += [row(f"seed, {name}", told.get(name, name), spread) for name, spread in found.seed_overlap.items()]
    if found.embedding:
        rows += [row(pair, "cosine to the nearest", spread, scale=False) for pair, spread in found.embedding.nearest.items()]
    return table(["set", "what", "mean", "median", "90 %"], rows, texts=2, caption="Overlap and likeness")


def _topics(found: Topics | None) -> Child:
    if found is None:
        return missing("topics", "The synthesize arrow clustered none: there was no encoder.")

    def part(name: str, index: int) -> float:
        return found.shares[name][index] if index < len(found.shares[name]) else 0.0

    most = max((value for values in found.shares.values() for value in values), default=0.0)
    ordered = sorted(range(len(found.words)), key=lambda index: (-max(part(name, index) for name in found.shares), index))
    rows: list[list[Child]] = [
        [", ".join(found.words[index][:_WORDS]), *(heat(part(name, index), most, share(part(name, index), 1)) for name in found.shares)]
        for index in ordered[:_TOPICS]
    ]
    foot = ["effective number of topics", *(decimal(found.effective.get(name), 1) for name in found.shares)]
    left = f"; {len(ordered) - _TOPICS} smaller ones left out" if len(ordered) > _TOPICS else ""
    caption = f"Topics: {found.clusters} clusters of all sets' documents together, by their most telling words{left}"
    return table(["topic", *(words(name) for name in found.shares)], rows, caption=caption, foot=foot)


def _imports(found: Diversity) -> Markup | None:
    """What documents import most, set by set."""
    there: Mapping[str, list[tuple[str, float]]] = {name: most[:_IMPORTS] for name, most in found.imports.items() if most}
    if not there:
        return None
    rows: list[list[Child]] = [[words(name), ", ".join(f"{module} {share(part, 1)}" for module, part in most)] for name, most in there.items()]
    return table(["set", "imports, share of documents"], rows, texts=2, caption="What documents import most")
