"""The corpus: what came in, what was dropped by which rule, and examples to judge the rules by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.inputs import Artefact
from megatron_snow.report.numbers import MINUS, count, of, share, words
from megatron_snow.report.parts import Sample, Section, absent, bars, heat, missing, samples, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.summaries import Corpus, CorpusSample

_SHOWN_DROPPED = 6  # files a rule (ours: with 40 rules the page stays under a megabyte)
_SHOWN_KEPT = 2  # files a language (ours)
_NAMED = 4  # languages of a placeholder (ours)
_KINDS = 20  # of secrets, commonest first (ours)
_NAMES = 12  # of anything that is listed in a line (ours)
_LICENCES = 15  # refused, commonest first (ours)
_LANGUAGES = 24  # rows of the table of drops, most files first, the rest together (ours: the paper has 18)


def section(road: RoadView) -> Section:
    """Built from corpus/summary.json."""
    artefact = road.stage("corpus")
    if artefact is None:
        return absent("corpus", "Corpus", "corpus")
    corpus = artefact.read("summary.json", Corpus)
    if corpus is None:
        return Section("corpus", "Corpus", None, [missing("funnel", "The corpus artefact holds no summary.json.")])
    dropped, kept = _samples(artefact)
    body: list[Child] = [
        tag("h3", "Files dropped, by rule"),
        _bars(corpus),
        _findings(corpus),
        *_contamination(corpus),
        tag("h3", "Drops by language"),
        _by_language(corpus),
        tag("h3", "Examples of what each rule dropped"),
        _dropped(corpus, dropped) if dropped else _examples(corpus),
        tag("h3", "Examples of what was kept, by language"),
        _kept(kept),
        *_redactions(corpus),
        *_refused(corpus),
    ]
    return Section("corpus", "Corpus", _lead(corpus), body)


def _lead(corpus: Corpus) -> str:
    kept = f"{count(corpus.kept)} of {count(corpus.entered)} files stay ({share(corpus.kept, corpus.entered)}); "
    held = f"{count(corpus.heldout.documents)} of them, in {of(corpus.heldout.repositories, 'whole repository')}, are held out for evaluation. "
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
        lines.append(f"Decontamination looked for {of(sought.sought, 'text')} of the benchmarks named below and found {count(len(sought.found))} of them.")
        if sought.ignored:
            lines.append(f"{count(len(sought.ignored))} were not looked for: too short to name a problem.")
    if taken := corpus.taken_down:
        lines.append(f"Taken down: {of(sum(taken.files.values()), 'file')} of {of(len(taken.files), 'repository')}.")
        if taken.none:
            named = ", ".join(taken.none[:_NAMES]) + (" and others" if len(taken.none) > _NAMES else "")
            lines.append(f"{of(len(taken.none), 'name')} of the take-down list matched no file: {named}.")
    return tag("p", " ".join(lines), class_="note")


def _contamination(corpus: Corpus) -> list[Child]:
    """Which benchmarks the corpus was searched for, and which of their texts it held."""
    sought = corpus.decontamination
    if sought is None or not (sought.benchmarks or sought.found):
        return []
    of_benchmark: dict[str, list[str]] = {name: [] for name in sorted(sought.benchmarks)}
    for name in sorted(sought.found, key=lambda name: (-sought.found[name], name)):
        of_benchmark.setdefault(name.partition(" ")[0], []).append(name)
    rows: list[list[Child]] = []
    for benchmark, names in of_benchmark.items():
        shown = "; ".join(f"{name.partition(' ')[2]} ({of(sought.found[name], 'file')})" for name in names[:_NAMES])
        more = f"; {count(len(names) - _NAMES)} more" if len(names) > _NAMES else ""
        rows.append([benchmark, shown + more or "none", count(sought.benchmarks.get(benchmark, 0)), count(len(names))])
    caption = "A file that holds one is dropped; contaminated.jsonl of the corpus artefact names every file"
    return [tag("h3", "Benchmark texts found"), table(["benchmark", "found, in most files first", "looked for", "found"], rows, texts=2, caption=caption)]


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


def _samples(artefact: Artefact) -> tuple[dict[str, list[CorpusSample]], dict[str, list[CorpusSample]]]:
    """Of samples.jsonl: what was dropped, by reason, a language's first ones first; what was kept, by language."""
    dropped: dict[str, list[tuple[int, CorpusSample]]] = {}
    kept: dict[str, list[CorpusSample]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in artefact.stream("samples.jsonl", CorpusSample):
        if row.kind == "kept":
            kept.setdefault(row.language, []).append(row)
        else:
            seen[row.reason, row.language] += 1
            dropped.setdefault(row.reason, []).append((seen[row.reason, row.language], row))
    # One of each language before a second of any.
    return {reason: [row for _, row in sorted(rows, key=lambda item: item[0])] for reason, rows in dropped.items()}, kept


def _sample(row: CorpusSample) -> Sample:
    # What was dropped early was dropped before its licence was looked for.
    licence = row.license or ("no licence stated" if row.kind == "kept" else "")
    return Sample(row.id, row.text, [row.language, *([licence] if licence else [])])


def _dropped(corpus: Corpus, rows: Mapping[str, Sequence[CorpusSample]]) -> Child:
    found = [
        samples(join(tag("b", words(reason)), f" {of(dropped, 'file')}"), [_sample(row) for row in rows.get(reason, [])[:_SHOWN_DROPPED]])
        for reason, dropped in _totals(corpus).items()
    ]
    return tag("div", found) if any(found) else missing("examples", "The corpus artefact names none.")


def _kept(rows: Mapping[str, Sequence[CorpusSample]]) -> Child:
    if not rows:
        return missing("examples of kept files", "The corpus artefact holds no samples.jsonl; files of each tier are below.")
    ordered = sorted(rows)[:_LANGUAGES]
    left = tag("p", f"{of(len(rows) - len(ordered), 'more language')} not shown.", class_="note") if len(rows) > len(ordered) else None
    return [tag("div", [samples(tag("b", language), [_sample(row) for row in rows[language][:_SHOWN_KEPT]]) for language in ordered]), left]


def _redactions(corpus: Corpus) -> list[Child]:
    """Secrets and personal data that were replaced; never what was found."""
    if not corpus.redactions:
        return []
    rows: list[list[Child]] = []
    for placeholder, languages in sorted(corpus.redactions.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        most = sorted(languages.items(), key=lambda item: (-item[1], item[0]))[:_NAMED]
        rows.append([tag("code", placeholder), ", ".join(f"{language} {count(number)}" for language, number in most), count(sum(languages.values()))])
    kinds = sorted(corpus.redacted_kinds.items(), key=lambda item: (-item[1], item[0]))[:_KINDS]
    named = "By what was recognised: " + ", ".join(f"{kind} {count(number)}" for kind, number in kinds) + "." if kinds else None
    return [
        tag("h3", "Secrets and personal data replaced"),
        table(["replaced by", "most in", "times"], rows, texts=2, caption="In documents that passed the filters"),
        tag("p", named, class_="note") if named else None,
    ]


def _refused(corpus: Corpus) -> list[Child]:
    if not corpus.refused_licenses:
        return []
    ordered = sorted(corpus.refused_licenses.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:_LICENCES], sum(number for _, number in ordered[_LICENCES:])
    rows: list[list[Child]] = [[name, count(number)] for name, number in shown]
    if rest:
        rows.append([f"{len(ordered) - len(shown)} others", count(rest)])
    return [tag("h3", "Licences that files were dropped for"), table(["licence", "files"], rows)]


def _examples(corpus: Corpus) -> Child:
    found = [
        samples(join(tag("b", words(reason)), f" {of(dropped, 'file')}"), [Sample(one.id, one.snippet) for one in corpus.examples.get(reason, [])])
        for reason, dropped in _totals(corpus).items()
    ]
    return tag("div", found) if any(found) else missing("examples", "The funnel names none.")
