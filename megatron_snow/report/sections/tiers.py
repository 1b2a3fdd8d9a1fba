"""The tiers side by side: size, languages, licences, and files of each to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from megatron_snow.artifacts.units import format_bytes
from megatron_snow.report.html import Child, Markup, tag
from megatron_snow.report.numbers import count, decimal, of, share, words
from megatron_snow.report.parts import Sample, Section, grid, heat, missing, samples, table
from megatron_snow.report.road_view import TIERS, RoadView
from megatron_snow.report.summaries import TierTokens, Tokenized
from megatron_snow.report.tiers import Profile

_ROWS = 20  # languages or licences, largest first, the rest together (ours)


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
        grid(
            [_languages(found, tokens), _shares("licence", "Licences, share of files", {tier: one.license_files for tier, one in found.items()})], "plots half"
        ),
        tag("h3", "Files of each tier"),
        tag("div", [_shown(tier, one) for tier, one in found.items()]),
    ]
    return Section("tiers", "Tiers", _lead(found, tokens), body)


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
    sampled = [f"{words(tier)} {one.shards_read} of {of(one.shards_all, 'shard')}" for tier, one in found.items() if one.sampled]
    if not sampled:
        return None
    return tag("p", "Repositories, lines, licences and mean size are of a part of the tier: " + ", ".join(sampled) + ".", class_="note")


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
