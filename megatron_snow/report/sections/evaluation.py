"""Evaluation by phase: bits per byte, HumanEval, the paper's numbers, and what the last model writes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise

from megatron_snow.report.canvas import colour
from megatron_snow.report.charts import Line, figure, phase_chart
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import DASH, count, decimal, of
from megatron_snow.report.parts import Alert, Section, absent, grid, missing, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.rows import Value, value_chart
from megatron_snow.report.sections import benchmarks
from megatron_snow.report.sections.training import tokens_by_phase
from megatron_snow.report.summaries import Completion, Corpus, Results

SOLUTIONS = "HumanEval solutions"
_WORSE = 0.02  # bits per byte (ours: 1 % of what small models need; below it seeds differ)
_TITLE, _WRITTEN = 80, 3_000  # characters of a prompt as title, and of prompt and completion each (ours: two screens of a phone)
_COMPLETIONS = 12  # shown (ours)
_LANGUAGES = 40  # rows of bits per byte, most text first (ours: the paper has 18)
_CURVES = 8  # languages with a curve of their own (ours: as many as the palette has colours)
_NAMED = 6  # languages in a warning (ours)


def results_by_phase(road: RoadView) -> dict[str, Results]:
    """results.json of every evaluated phase that has one."""
    found = {phase: artefact.read("results.json", Results) for phase, artefact in road.phases("evaluate").items()}
    return {phase: results for phase, results in found.items() if results is not None}


def section(road: RoadView) -> Section:
    """Built from evaluate/*/results.json."""
    if not road.phases("evaluate"):
        return absent("evaluation", "Evaluation", "evaluate")
    results = results_by_phase(road)
    if not results:
        return Section("evaluation", "Evaluation", None, [missing("results", "The evaluate artefacts hold no results.json.")])
    last = results[list(results)[-1]]
    body: list[Child] = [
        tag("h3", "Bits per byte: how many bits the model needs for a byte of code it has not seen; lower is better"),
        grid([_bits_plot(results), _bits_curves(results, road)], "plots half"),
        _bits_table(results),
        *benchmarks.blocks(results),
    ]
    return Section("evaluation", "Evaluation by phase", _lead(results, last), body)


def alerts(road: RoadView) -> list[Alert]:
    """Phases that made code cost more bits than the phase before, and benchmarks that the corpus was not searched for."""
    results = results_by_phase(road)
    found = []
    for before, after in pairwise(results):
        old, new = (results[phase].bits_per_byte.heldout for phase in (before, after))
        worse = {name: change for name, bits in new.items() if bits is not None and (was := old.get(name)) is not None and (change := bits - was) > _WORSE}
        if worse:
            named = ", ".join(f"{'all held-out code' if name == 'all' else name} by {change:.3f}" for name, change in list(worse.items())[:_NAMED])
            rest = f" and {len(worse) - _NAMED} more" if len(worse) > _NAMED else ""
            text = f"After {after}, held-out code costs more bits per byte than after {before}: {named}{rest}."
            found.append(Alert("forgetting", text, "evaluation", "bits per byte by language and phase."))
    return [*found, *_unsought(road, results)]


def _unsought(road: RoadView, results: Mapping[str, Results]) -> list[Alert]:
    """Benchmarks reported on that the corpus may hold: by their names, since wordings of one benchmark differ."""
    artefact = road.stage("corpus")
    corpus = artefact.read("summary.json", Corpus) if artefact else None
    searched = corpus.decontamination if corpus else None
    if searched is None or (searched.sought and not searched.benchmarks):  # made before they were told apart
        return []
    reported: dict[str, None] = {}
    for one in results.values():
        reported |= dict.fromkeys([*(name for name, benchmark in one.benchmarks.items() if not benchmark.members), *one.bits_per_byte.solutions])
        if not reported and one.humaneval:
            reported["humaneval"] = None
    names = [name for name in reported if name not in searched.benchmarks]
    if not names:
        return []
    text = f"{', '.join(names)}: reported on, and the corpus was not searched for them. What is measured may have been read in training."
    return [Alert("contamination", text, "corpus", "which benchmarks it was searched for; add these to corpus.decontamination.benchmarks.")]


def completions(road: RoadView) -> Section:
    """What the last evaluated model writes."""
    results = results_by_phase(road)
    phase = list(results)[-1] if results else None
    if phase is None or not results[phase].completions:
        return Section("completions", "Completions", None, [missing("completions", "No evaluated phase wrote any.")])
    blocks = [_completion(one) for one in results[phase].completions[:_COMPLETIONS]]
    lead = join(f"The model after {phase} continues each prompt greedily; ", tag("span", "what it wrote is in this colour", class_="written"), ".")
    return Section("completions", "Completions", lead, [grid(blocks, "plots half")])


def _completion(one: Completion) -> Markup:
    title = one.prompt.strip().splitlines()[0][:_TITLE] if one.prompt.strip() else "(empty prompt)"
    return figure(
        title,
        tag(
            "pre",
            tag("code", one.prompt[:_WRITTEN], tag("span", one.completion[:_WRITTEN], class_="written")),
            tabindex=0,
            role="group",
            aria_label="completion",
        ),
    )


def _lead(results: Mapping[str, Results], last: Results) -> Markup:
    first_phase, last_phase = next(iter(results)), list(results)[-1]
    before, after = results[first_phase].bits_per_byte.heldout.get("all"), last.bits_per_byte.heldout.get("all")
    sentence = f"After {last_phase}, held-out code costs {decimal(after)} bits per byte"
    if before is not None and after is not None and first_phase != last_phase:
        sentence += f" ({'down' if after < before else 'up'} from {decimal(before)} after {first_phase})" if after != before else f", as after {first_phase}"
    return join(sentence, f"; HumanEval pass@1 is {benchmarks.pass_at_1(last.humaneval)}." if last.humaneval else ".")


def _bits(results: Results) -> dict[str, float | None]:
    """Rows of table and plot: all held-out files, each language, HumanEval's solutions."""
    held = results.bits_per_byte.heldout
    rows = {"all held-out": held.get("all"), **{language: held[language] for language in sorted(held) if language != "all"}}
    others = {f"{name} solutions": bits for name, bits in results.bits_per_byte.solutions.items() if name != "humaneval"}
    return {**rows, SOLUTIONS: results.bits_per_byte.humaneval_solutions, **others}


def _row_names(results: Mapping[str, Results]) -> list[str]:
    """All held-out files, the languages with most text by name, HumanEval's solutions."""
    names = dict.fromkeys(name for one in results.values() for name in _bits(one))
    sizes = list(results.values())[-1].measured.heldout_bytes
    languages = sorted((name for name in names if name in sizes), key=lambda name: (-sizes[name], name))
    return ["all held-out", *sorted(languages[:_LANGUAGES]), *(name for name in names if name not in sizes and name != "all held-out")]


def _bits_plot(results: Mapping[str, Results]) -> Markup:
    legend = [(phase, colour(index)) for index, phase in enumerate(results)]
    tables = {phase: _bits(one) for phase, one in results.items()}
    rows = []
    for name in _row_names(results):
        rows.append((name, [Value(phase, value, tint) for phase, tint in legend if (value := tables[phase].get(name)) is not None]))
    return figure("By language and phase", value_chart("bits per byte by language and phase", rows, "bits per byte"), legend=legend, lined=False)


def _bits_curves(results: Mapping[str, Results], road: RoadView) -> Markup | None:
    """Held-out bits per byte after each phase over the tokens seen, one curve a language; None where they are not known at two points."""
    tokens = {phase: count for phase, count in tokens_by_phase(road).items() if phase in results}
    if len(tokens) < 2:
        return None
    ends = dict(zip(tokens, accumulate(tokens.values()), strict=True))
    sizes = list(results.values())[-1].measured.heldout_bytes
    largest = sorted(sizes, key=lambda language: (-sizes[language], language))[: _CURVES - 1]
    lines = []
    for index, name in enumerate(["all", *largest]):
        points = [(float(end), value) for phase, end in ends.items() if (value := results[phase].bits_per_byte.heldout.get(name)) is not None]
        lines.append(Line("all held-out" if name == "all" else name, points, colour(index), marks=True))
    drawing = phase_chart("held-out bits per byte by language over tokens", lines, [(phase, float(count)) for phase, count in tokens.items()], "bits per byte")
    rest = len(sizes) - len(largest)
    note = "Measured after each phase on the same held-out files" + (f"; {of(rest, 'language')} with less text in the table." if rest > 0 else ".")
    return figure("Held-out code after each phase", drawing, note, [(line.name, line.colour) for line in lines])


def _bits_table(results: Mapping[str, Results]) -> Markup:
    tables = {phase: _bits(one) for phase, one in results.items()}
    sizes = list(results.values())[-1].measured.heldout_bytes
    several = len(results) > 1
    rows: list[list[Child]] = []
    for name in _row_names(results):
        values = [tables[phase].get(name) for phase in results]
        change: Child = None
        if several:
            change = f"{values[-1] - values[0]:+.3f}" if values[0] is not None and values[-1] is not None else DASH
        measured = sum(sizes.values()) if name == "all held-out" else sizes.get(name)
        rows.append([name, *(decimal(value) for value in values), *([change] if several else []), count(measured)])
    left = len(sizes) - _LANGUAGES
    caption = "Bits per byte after each phase" + (f"; {of(left, 'language')} with less text left out" if left > 0 else "")
    return table(["measured on", *results, *(["first to last"] if several else []), "bytes"], rows, caption=caption)
