"""The synthetic tier: how many answers became files, why others did not, and files beside what seeded them."""

from __future__ import annotations

from megatron_snow.artifacts.units import format_bytes
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import count, decimal, of, share, words
from megatron_snow.report.parts import Alert, Sample, Section, absent, bars, grid, missing, samples, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.sections import diversity
from megatron_snow.report.summaries import DroppedAnswer, Synthesis
from megatron_snow.report.tiers import find

_UNLIKE = 3.0  # times as much or as little as in the selected files (ours)
_KINDS = 8  # of a linter's findings (ours)
_ENDED = {
    "requests": "the number of requests was reached",
    "tokens": "the token budget was reached",
    "seeds": "the seeds were used up",
    "spend": "the money was spent",
}


def section(road: RoadView) -> Section:
    """Built from synthesize/summary.json and the tier."""
    artefact = road.stage("synthesize")
    if artefact is None:
        return absent("synthetic", "Synthetic files", "synthesize")
    found = artefact.read("summary.json", Synthesis)
    if found is None:
        why = "The synthesize artefact holds no summary.json."
        return Section("synthetic", "Synthetic files", None, [missing("summary of the answers", why), _accepted(road)])
    body: list[Child] = [
        tag("h3", "What became of the answers"),
        _bars(found),
        _languages(found),
        *_checks(found),
        *diversity.blocks(road),
        tag("h3", "Accepted files, each beside the file that seeded it"),
        _accepted(road),
        tag("h3", "Answers that were dropped"),
        _dropped(found),
    ]
    return Section("synthetic", "Synthetic files", _lead(found), body)


def alerts(road: RoadView) -> list[Alert]:
    """A synthetic tier that comments unlike the files it was to be like; ``signatures`` compares the rest."""
    found = diversity.alerts(road)
    written, chosen = road.profiles.get("synthetic"), road.profiles.get("high_quality")
    if written is None or chosen is None or not written.files or not chosen.files:
        return found
    mine, theirs = written.comment_share, chosen.comment_share
    if mine and theirs and not 1 / _UNLIKE < mine / theirs < _UNLIKE:
        text = f"Comments are {share(mine, 1)} of the synthetic tier's text and {share(theirs, 1)} of the selected files'."
        found.append(Alert("synthetic bias", text, "tiers", "comments and repetition of the tiers."))
    return found


def _lead(found: Synthesis) -> str:
    kept = f"{count(found.accepted)} of {of(found.answers, 'answer')} of {found.model} became files ({share(found.accepted, found.answers)}); "
    return kept + f"asking ended because {_ENDED.get(found.ended, found.ended)}."


def _bars(found: Synthesis) -> Markup:
    whole = found.requests
    totals = {reason: sum(languages.values()) for reason, languages in found.drops.items()}
    if found.unanswered:
        totals["unanswered"] = found.unanswered
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    spent = f"Prompt {found.prompt.name} ({found.prompt.sha256[:12]}); {of(found.seeds.drawn, 'seed')} drawn. "
    spent += f"{count(found.prompt_tokens)} tokens read and {count(found.completion_tokens)} written, as the server counts; "
    spent += f"the accepted documents hold {count(found.accepted_tokens)} in the recipe's tokenizer."
    if found.spent:
        spent += f" {found.spent:,.2f} of money spent, at the recipe's prices."
    return join(
        bars([("requests", whole, count(whole))], whole, 0),
        bars([(words(reason), dropped, f"{count(dropped)} ({share(dropped, whole)})") for reason, dropped in ordered], whole, 2),
        bars([("accepted", found.accepted, f"{count(found.accepted)} ({share(found.accepted, whole)})")], whole, 3),
        tag("p", spent, class_="note"),
    )


def _languages(found: Synthesis) -> Markup:
    ordered = sorted(found.languages.items(), key=lambda item: (-item[1].asked, item[0]))
    rows = [[name, count(one.asked), count(one.accepted), share(one.accepted, one.asked), format_bytes(one.bytes)] for name, one in ordered]
    return table(["language", "answers", "accepted", "share", "text"], rows)


def _checks(found: Synthesis) -> list[Child]:
    """What prompts, the sandbox and the linter say; nothing where none was asked."""
    parts: list[Child] = []
    if len(found.styles) > 1:
        rows: list[list[Child]] = [[name, count(one.asked), count(one.accepted), share(one.accepted, one.asked)] for name, one in found.styles.items()]
        parts.append(tag("div", table(["prompt", "answers", "accepted", "share"], rows, caption="By prompt")))
    if found.verified:
        whole = sum(found.verified.values())
        rows = [[words(end), count(number), share(number, whole)] for end, number in sorted(found.verified.items(), key=lambda item: (-item[1], item[0]))]
        parts.append(tag("div", table(["run in the sandbox", "documents", "share"], rows, caption="Python documents' own tests; “ran” asserted nothing")))
    if found.lint:
        most = sorted(found.lint.kinds.items(), key=lambda item: (-item[1], item[0]))[:_KINDS]
        middle = found.lint.problems_per_100_lines.get("median")
        caption = f"Linter: {decimal(middle, 1)} problems in 100 lines of the middle one of {of(found.lint.documents, 'document')}; commonest kinds"
        parts.append(tag("div", table(["kind", "times"], [[kind, count(number)] for kind, number in most], caption=caption)))
    return [grid(parts, "plots")] if parts else []


def _accepted(road: RoadView) -> Child:
    """Some accepted files, each followed by the beginning of its seed's file."""
    shown = road.profiles["synthetic"].shown if "synthetic" in road.profiles else []
    if not shown:
        return missing("synthetic files", "The tier is empty.")
    tier = road.tier("high_quality")
    seeds = find(tier, {one["seed_id"] for one in shown if "seed_id" in one}) if tier else {}
    folds = []
    for document in shown:
        pair = [Sample(document["id"], document["text"], [document["language"], "written"])]
        if seed := seeds.get(document.get("seed_id", "")):
            pair.append(Sample(seed["id"], seed["text"], [seed["language"], "its seed's file", seed["license"] or "no licence stated"]))
        folds.append(samples(join(tag("b", document["language"]), " ", tag("code", document["id"])), pair))
    return tag("div", folds)


def _dropped(found: Synthesis) -> Child:
    def sample(one: DroppedAnswer) -> Sample:
        notes = [one.language, one.detail.splitlines()[0][:120]] if one.detail.strip() else [one.language]
        return Sample(f"seeded by {one.seed_id}", one.snippet, notes)

    totals = {reason: sum(languages.values()) for reason, languages in found.drops.items()}
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    folds = [samples(join(tag("b", words(reason)), f" {of(n, 'answer')}"), [sample(one) for one in found.examples.get(reason, [])]) for reason, n in ordered]
    return tag("div", folds) if any(folds) else missing("dropped answers", "Every answer was accepted, or the summary names no example.")
