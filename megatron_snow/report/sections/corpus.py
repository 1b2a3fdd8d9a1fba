"""The corpus: what came in, what was dropped by which rule, and examples to judge the rules by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import MINUS, count, of, share, words
from megatron_snow.report.parts import Sample, Section, absent, bars, heat, missing, samples, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.summaries import Corpus

_LANGUAGES = 24  # rows of the table of drops, most files first, the rest together (ours: the paper has 18)


def section(road: RoadView) -> Section:
    """Built from corpus/summary.json."""
    artefact = road.stage("corpus")
    if artefact is None:
        return absent("corpus", "Corpus", "corpus")
    corpus = artefact.read("summary.json", Corpus)
    if corpus is None:
        return Section("corpus", "Corpus", None, [missing("funnel", "The corpus artefact holds no summary.json.")])
    body: list[Child] = [
        tag("h3", "Files dropped, by rule"),
        _bars(corpus),
        _findings(corpus),
        tag("h3", "Drops by language"),
        _by_language(corpus),
        tag("h3", "Examples of what each rule dropped"),
        _examples(corpus),
    ]
    return Section("corpus", "Corpus", _lead(corpus), body)


def _lead(corpus: Corpus) -> str:
    kept = f"{count(corpus.kept)} of {count(corpus.entered)} files stay ({share(corpus.kept, corpus.entered)}); "
    held = f"{count(corpus.heldout.documents)} of them, in {count(corpus.heldout.repositories)} whole repositories, are held out for evaluation. "
    totals = _totals(corpus)
    if not totals:
        return kept + held + "No rule dropped any."
    reason = next(iter(totals))
    return kept + held + f"The rule that drops most is “{words(reason)}”, with {count(totals[reason])}."


def _totals(corpus: Corpus) -> dict[str, int]:
    """Drops of each reason, most first."""
    totals = {reason: sum(languages.values()) for reason, languages in corpus.drops.items()}
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _bars(corpus: Corpus) -> Markup:
    whole = corpus.entered
    drops = [(words(reason), dropped, f"{MINUS} {count(dropped)} ({share(dropped, whole)})") for reason, dropped in _totals(corpus).items()]
    return join(
        bars([("files in", whole, count(whole))], whole, 0),
        bars(drops, whole, 2),
        bars([("kept", corpus.kept, f"{count(corpus.kept)} ({share(corpus.kept, whole)})")], whole, 3),
    )


def _findings(corpus: Corpus) -> Markup:
    """What deduplication and decontamination say beside their counts."""
    lines: list[str] = []
    if near := corpus.near_duplicates:
        lines.append(f"Near-duplicates: {count(near.dropped)} files in {count(near.clusters)} clusters around a file that stays.")
        if near.largest:
            lines.append(f"The largest cluster is {near.largest[0].kept} with {count(near.largest[0].dropped)} copies.")
    if sought := corpus.decontamination:
        lines.append(f"Decontamination looked for {count(sought.sought)} docstrings and solutions of HumanEval and found {count(len(sought.found))} of them.")
        if sought.ignored:
            lines.append(f"{count(len(sought.ignored))} were not looked for: too short to name a problem.")
    return tag("p", " ".join(lines), class_="note")


def _by_language(corpus: Corpus) -> Markup:
    kept: Counter[str] = Counter()
    for side in (corpus.standard, corpus.heldout):
        kept.update({language: size.files for language, size in side.languages.items()})
    entered = Counter(kept)
    for languages in corpus.drops.values():
        entered.update(languages)
    ordered = sorted(entered, key=lambda language: (-entered[language], language))
    rows = [_language_row(language, [language], corpus, entered, kept) for language in ordered[:_LANGUAGES]]
    if rest := ordered[_LANGUAGES:]:
        rows.append(_language_row(f"{len(rest)} others", rest, corpus, entered, kept))
    return table(
        ["language", "in", "kept", "kept, %", *(words(reason) for reason in _totals(corpus))],
        rows,
        caption="Files; the darker the ground, the larger the share of the language's files that the rule dropped",
    )


def _language_row(name: str, languages: Sequence[str], corpus: Corpus, entered: Mapping[str, int], kept: Mapping[str, int]) -> list[Child]:
    whole, stay = sum(entered[one] for one in languages), sum(kept[one] for one in languages if one in kept)
    cells: list[Child] = [name, count(whole), count(stay), share(stay, whole)]
    for reason in _totals(corpus):
        dropped = sum(corpus.drops[reason].get(one, 0) for one in languages)
        cells.append(heat(dropped, whole, count(dropped)) if dropped else tag("span", "·", class_="soft"))
    return cells


def _examples(corpus: Corpus) -> Child:
    found = [
        samples(join(tag("b", words(reason)), f" {of(dropped, 'file')}"), [Sample(one.id, one.snippet) for one in corpus.examples.get(reason, [])])
        for reason, dropped in _totals(corpus).items()
    ]
    return tag("div", found) if any(found) else missing("examples", "The funnel names none.")
