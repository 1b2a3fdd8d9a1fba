"""The tiers side by side: size, languages, licences, lengths, comments, repetition, and files of each to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from megatron_snow.artifacts.units import format_bytes
from megatron_snow.report.canvas import colour
from megatron_snow.report.charts import Line, figure, line_chart, logarithmic
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.numbers import DASH, count, decimal, of, share, words
from megatron_snow.report.parts import Alert, Sample, Section, grid, heat, missing, samples, table
from megatron_snow.report.road_view import TIERS, RoadView
from megatron_snow.report.sections.training import TIER_COLOURS
from megatron_snow.report.sketch import SHORTEST
from megatron_snow.report.summaries import TierTokens, Tokenized
from megatron_snow.report.tiers import PARSED_FILES, QUANTILES, Profile

_ROWS = 20  # languages or licences, largest first, the rest together (ours)
_COPIES = 0.05  # of a tier's files (ours: near-deduplication leaves none but what redaction makes equal)
_LEAKED = 0.5  # of the held-out lines in what is trained on (ours: files of one library share a fifth to a third of their lines)


def section(road: RoadView) -> Section:
    """Built from the tokenize arrow's counts and from the tiers' own shards (see ``report.tiers``)."""
    found = road.profiles
    notes = [missing(f"{words(tier)} tier", "The road this report was built from did not write it.") for tier in TIERS if tier not in found]
    if not found:
        return Section("tiers", "Tiers", None, notes)
    tokens = _tokens(road)
    body: list[Child] = [
        notes,
        _sizes(found, tokens),
        _read(found),
        grid([_lengths(found), tag("div", _length_table(found), _text(found))], "plots half"),
        grid(
            [_languages(found, tokens), _shares("licence", "Licences, share of files", {tier: one.license_files for tier, one in found.items()})], "plots half"
        ),
        _overlap(found),
        tag("h3", "Files of each tier"),
        tag("div", [_shown(tier, one) for tier, one in found.items()]),
    ]
    return Section("tiers", "Tiers", _lead(found, tokens), body)


def alerts(road: RoadView) -> list[Alert]:
    """Tiers that repeat themselves, and held-out code that is in what was trained on."""
    found: list[Alert] = []
    for tier, one in road.profiles.items():
        copies = one.file_sketch.copies()
        if copies is not None and copies > _COPIES:
            text = f"{share(copies, 1)} of the files of the {words(tier)} tier are copies of another but for white space."
            found.append(Alert("repeated files", text, "tiers", "the table of comments and repetition."))
    if (held := road.profiles.get("heldout")) and (standard := road.profiles.get("standard")):
        leaked = held.line_sketch.found_in(standard.line_sketch)
        if leaked is not None and leaked > _LEAKED:
            text = f"{share(leaked, 1)} of the lines of held-out files are in the standard tier too: bits per byte on them say little about unseen code."
            found.append(Alert("held-out code", text, "tiers", "the table of lines found in other tiers."))
    return found


def _lead(found: Mapping[str, Profile], tokens: Mapping[str, TierTokens]) -> str:
    def size(tier: str) -> str:
        return f"{count(tokens[tier].tokens)} tokens" if tier in tokens else format_bytes(found[tier].bytes)

    return "What training can draw from: " + ", ".join(f"{words(tier)} {size(tier)}" for tier in found if tier != "heldout") + "."


def _sizes(found: Mapping[str, Profile], tokens: Mapping[str, TierTokens]) -> Markup:
    rows: list[list[Child]] = []
    for tier, one in found.items():
        exact = tokens.get(tier)
        counted = [count(exact.files), count(exact.documents), count(exact.tokens), decimal(exact.characters_per_token, 2)] if exact else [count(None)] * 4
        mean = one.bytes / one.files if one.files else 0
        rows.append([words(tier), *counted, count(len(one.repositories)), count(one.median_lines), format_bytes(mean)])
    heads = ["tier", "files", "training documents", "tokens", "characters a token", "repositories", "lines a file, median", "file, mean"]
    return table(heads, rows)


def _read(found: Mapping[str, Profile]) -> Markup | None:
    """How much of the tiers was read for what the tokenize arrow does not count."""
    sampled = [f"{words(tier)} {format_bytes(one.bytes)} from {one.shards_read} of {of(one.shards_all, 'shard')}" for tier, one in found.items() if one.sampled]
    if not sampled:
        return None
    return tag("p", "All but files, documents and tokens is of a part of the tier: " + ", ".join(sampled) + ".", class_="note")


def _lengths(found: Mapping[str, Profile]) -> Markup | None:
    longest = max((max(one.lines, default=0) for one in found.values()), default=0)
    if not longest:
        return None
    lines = [Line(words(tier), one.cumulative_lines(), _tint(tier)) for tier, one in found.items() if one.files]
    drawing = line_chart("share of files with at most so many lines, by tier", lines, logarithmic(1, longest), (0, 1), ("lines", "share of files"))
    legend = [(line.name, line.colour) for line in lines]
    return figure("Lengths", drawing, "Share of files with at most so many lines; the further right, the longer.", legend)


def _length_table(found: Mapping[str, Profile]) -> Markup:
    heads = ["lines a file", *(f"{100 * part:.0f} %" for part in QUANTILES)]
    rows = [[words(tier), *(count(lines) for lines in one.line_quantiles())] for tier, one in found.items() if one.files]
    return table(heads, rows, caption="Lines of the file that so many are no longer than")


def _text(found: Mapping[str, Profile]) -> Markup:
    """What the text is like: comments, lines and files that occur more than once."""
    rows: list[list[Child]] = []
    for tier, one in found.items():
        if one.files:
            lines, copies = one.line_sketch.repeated(), one.file_sketch.copies()
            rows.append([words(tier), _part(one.comment_share), count(one.parsed_files), _part(lines), _part(copies)])
    return table(
        ["tier", "comments", "files parsed", "lines in several files", "copied files"],
        rows,
        caption=f"Comments: share of bytes, docstrings among them, by tree-sitter, in up to {PARSED_FILES} files. Lines in several files: share of the lines "
        f"of {SHORTEST} bytes or more that another file of the tier has too. Copied files: what would go if white space were ignored",
    )


def _overlap(found: Mapping[str, Profile]) -> Markup | None:
    """How much of each tier is in each other."""
    there = {tier: one for tier, one in found.items() if one.files}
    if len(there) < 2:
        return None

    def cell(tier: str, other: str) -> Child:
        part = there[tier].line_sketch.found_in(there[other].line_sketch) if tier != other else None
        return DASH if part is None else heat(part, 1, share(part, 1))

    return tag(
        "div",
        tag("h3", "Lines found in other tiers"),
        table(
            ["lines of", *(f"in {words(other)}" for other in there)],
            [[words(tier), *(cell(tier, other) for other in there)] for tier in there],
            caption=f"Share of a tier's lines of {SHORTEST} bytes or more, once a file, that a file of another tier has too. The high-quality tier is "
            "taken out of the standard one; held-out repositories are not in it, but share libraries' idioms with it.",
        ),
    )


def _part(value: float | None) -> str:
    return DASH if value is None else share(value, 1)


def _tint(tier: str) -> int:
    return TIER_COLOURS.get(tier, colour(len(TIER_COLOURS)))


def _languages(found: Mapping[str, Profile], tokens: Mapping[str, TierTokens]) -> Markup:
    if all(tier in tokens for tier in found):
        by_tier = {tier: Counter({name: one.tokens for name, one in tokens[tier].languages.items()}) for tier in found}
        return _shares("language", "Languages, share of tokens", by_tier)
    return _shares("language", "Languages, share of bytes", {tier: one.language_bytes for tier, one in found.items()})


def _shares(what: str, title: str, by_tier: Mapping[str, Counter[str]]) -> Markup:
    """One row each with its share of every tier, ordered by the largest share anywhere."""
    totals = {tier: sum(counter.values()) for tier, counter in by_tier.items()}

    def part(tier: str, name: str) -> float:
        return by_tier[tier][name] / totals[tier] if totals[tier] else 0.0

    names = {name for counter in by_tier.values() for name in counter}
    ordered = sorted(names, key=lambda name: (-max(part(tier, name) for tier in by_tier), name))
    rows: list[list[Child]] = [[name, *(_share_cell(by_tier[tier][name], totals[tier]) for tier in by_tier)] for name in ordered[:_ROWS]]
    if rest := ordered[_ROWS:]:
        rows.append([of(len(rest), "other"), *(_share_cell(sum(by_tier[tier][name] for name in rest), totals[tier]) for tier in by_tier)])
    return tag("div", tag("h3", title), table([what, *(words(tier) for tier in by_tier)], rows))


def _share_cell(part: int, whole: int) -> Child:
    return heat(part, whole, share(part, whole)) if part else tag("span", "·", class_="soft")


def _shown(tier: str, one: Profile) -> Markup | None:
    shown = []
    for document in one.shown:
        notes = [document["language"], document["license"] or "no licence stated"]
        if "score" in document:
            notes.append(f"score {document['score']:.3f}")
        shown.append(Sample(document["id"], document["text"], notes))
    return samples(tag("b", words(tier)), shown)


def _tokens(road: RoadView) -> dict[str, TierTokens]:
    """What the tokenize arrow counted in each tier."""
    artefact = road.stage("tokenize")
    counted = artefact.read("summary.json", Tokenized) if artefact else None
    return counted.tiers if counted else {}
