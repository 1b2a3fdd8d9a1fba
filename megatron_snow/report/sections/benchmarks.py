"""Benchmarks by phase, with intervals, beside the paper's table 2; why programs failed; code off the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from megatron_snow.report.charts import figure
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import DASH, count, decimal, of, share, wilson, words
from megatron_snow.report.paper import MODELS, TABLE_2
from megatron_snow.report.parts import bars, grid, heat, table
from megatron_snow.report.rows import Value, value_chart
from megatron_snow.report.summaries import HumanEval, PassAt, Results

_OURS, _PAPERS = 1, 2  # colours
_REASONS = 12  # of failures, commonest first (ours)
_OFF_TARGET = 20  # rows of tier and language (ours)
_NOT_COMPARABLE = (
    "Not comparable, for orientation: table 2 of arXiv 2409.02326, a 1.3B model trained on 555B tokens, greedy pass@1 in per cent. "
    "The intervals are ours, Wilson's at 95 %, from the number of problems."
)


def blocks(results: Mapping[str, Results]) -> list[Child]:
    """What the evaluation section shows of programs that were run."""
    ran = any(one.benchmarks or one.humaneval for one in results.values())
    return [
        tag("h3", "Programs that pass their tests"),
        *(_passing(results) if ran else [tag("p", "None was run: evaluate.samples is 0. What solutions cost in bits is above.", class_="note")]),
        _off_target(results),
        _annotator(results),
    ]


def _passing(results: Mapping[str, Results]) -> list[Child]:
    several = any(one.benchmarks for one in results.values())
    return [grid(_charts(results)), _scores(results) if several else _humaneval_table(results), _paper_table(), _reasons(results)]


def pass_at_1(found: HumanEval) -> str:
    """``0.0 % (0 of 164; 95 % interval 0.0 to 2.3 %)``."""
    low, high = wilson(found.passed, found.problems)
    return f"{100 * found.pass_at_1:.1f} % ({found.passed} of {found.problems}; 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def _charts(results: Mapping[str, Results]) -> list[Markup]:
    """Each benchmark of the paper's that this run has, phase by phase beside the paper's model; HumanEval where it has none of them."""
    found = []
    for name, paper in TABLE_2.items():
        measured = {
            phase: one.benchmarks[name].pass_at["1"] for phase, one in results.items() if name in one.benchmarks and "1" in one.benchmarks[name].pass_at
        }
        if not measured:
            continue
        rows = []
        for phase in dict.fromkeys([*measured, *MODELS]):
            values = [_value("this run", measured[phase], results[phase].benchmarks[name].problems, _OURS)] if phase in measured else []
            if phase in MODELS:
                low, high = paper.interval(phase)
                values.append(Value("the paper's model", paper.scores[phase], _PAPERS, low, high))
            rows.append((phase, values))
        drawing = value_chart(f"{paper.title} after each phase, this run and the paper's", rows, "pass@1, %", zero=True)
        found.append(figure(paper.title, drawing, legend=[("this run", _OURS), ("the paper's model", _PAPERS)], lined=False))
    if not found and (measured_once := {phase: one.humaneval for phase, one in results.items() if one.humaneval}):
        rows = [(phase, [Value("this run", 100 * one.pass_at_1, _OURS, *(100 * end for end in wilson(one.passed, one.problems)))])
                for phase, one in measured_once.items()]  # fmt: skip
        found.append(figure("HumanEval", value_chart("HumanEval after each phase", rows, "pass@1, %", zero=True), "Whiskers: 95 % intervals."))
    return found


def _interval(one: PassAt, problems: int) -> tuple[float, float] | None:
    """In per cent. Where none or all pass, resampling the problems always gives the same: Wilson's interval says what is left open."""
    if one.low is None or one.high is None:
        return None
    low, high = (one.low, one.high) if one.low < one.high else wilson(round(one.score * problems), problems)
    return 100 * low, 100 * high


def _value(what: str, one: PassAt, problems: int, tint: int) -> Value:
    return Value(what, 100 * one.score, tint, *(_interval(one, problems) or (None, None)))


def _score(one: PassAt | None, problems: int) -> str:
    if one is None:
        return DASH
    found = _interval(one, problems)
    return f"{100 * one.score:.1f}" + (f" ({found[0]:.1f} to {found[1]:.1f})" if found else "")


def _scores(results: Mapping[str, Results]) -> Markup:
    """A row a benchmark and number of tries, after each phase."""
    names = list(dict.fromkeys(name for one in results.values() for name in one.benchmarks))
    rows: list[list[Child]] = []
    for name in names:
        there = {phase: one.benchmarks[name] for phase, one in results.items() if name in one.benchmarks}
        problems = next(iter(there.values())).problems
        for tries in sorted({tries for one in there.values() for tries in one.pass_at}, key=int):
            cells = [_score(there[phase].pass_at.get(tries) if phase in there else None, problems) for phase in results]
            rows.append([name, f"pass@{tries}", *cells, count(problems)])
        if any(one.base_pass_at for one in there.values()):
            cells = [_score((there[phase].base_pass_at or {}).get("1") if phase in there else None, problems) for phase in results]
            rows.append([name, "pass@1, base tests alone", *cells, count(problems)])
    caption = "This run, in per cent, with 95 % bootstrap intervals over problems (Wilson's where none or all pass); samples: " + ", ".join(
        dict.fromkeys(f"{of(one.samples, 'sample')} at temperature {one.temperature:g}" for found in results.values() for one in found.benchmarks.values())
    )
    return table(["benchmark", "", *(f"after {phase}" for phase in results), "problems"], rows, texts=2, caption=caption)


def _humaneval_table(results: Mapping[str, Results]) -> Markup:
    rows: list[list[Child]] = []
    for phase, one in results.items():
        if one.humaneval:
            low, high = wilson(one.humaneval.passed, one.humaneval.problems)
            found = f"{one.humaneval.passed} of {one.humaneval.problems}"
            rows.append([phase, f"{100 * one.humaneval.pass_at_1:.1f} %", found, f"{100 * low:.1f} to {100 * high:.1f} %"])
    return table(["this run, after", "pass@1", "problems", "95 % interval"], rows, caption="This run: HumanEval, one greedy completion a problem")


def _paper_table() -> Markup:
    rows: list[list[Child]] = []
    for phase, model in MODELS.items():
        cells = []
        for column in TABLE_2.values():
            low, high = column.interval(phase)
            cells.append(f"{column.scores[phase]:.1f} ({low:.1f} to {high:.1f})")
        rows.append([f"{phase} ({model})", *cells])
    return table(["the paper's model, after", *(column.title for column in TABLE_2.values())], rows, caption=_NOT_COMPARABLE)


def _reasons(results: Mapping[str, Results]) -> Markup | None:
    """Why completions of the last model failed."""
    phase, last = list(results.items())[-1]
    ended = {name: one.reasons for name, one in last.benchmarks.items() if not one.members}
    if not ended and last.humaneval:
        ended = {"HumanEval": last.humaneval.reasons}
    if not any(ended.values()):
        return None
    title = tag("h3", f"How the completions after {phase} end")
    if len(ended) == 1:
        (reasons,) = ended.values()
        ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_REASONS]
        whole = sum(reasons.values())
        return join(title, bars([(words(reason), n, f"{count(n)} ({share(n, whole)})") for reason, n in ordered], whole))
    total: Counter[str] = Counter()
    for reasons in ended.values():
        total.update(reasons)
    shown = [reason for reason, _ in total.most_common(_REASONS)]

    def cell(reasons: Mapping[str, int], reason: str) -> Child:
        return heat(reasons[reason], sum(reasons.values()), count(reasons[reason])) if reasons.get(reason) else tag("span", "·", class_="soft")

    rows: list[list[Child]] = [[name, *(cell(reasons, reason) for reason in shown)] for name, reasons in ended.items()]
    return join(title, table(["benchmark", *(words(reason) for reason in shown)], rows, caption="Samples; the darker, the larger the share of the benchmark's"))


def _off_target(results: Mapping[str, Results]) -> Markup | None:
    """Bits per byte on tiers and languages that a phase did not aim at."""
    found = {phase: one.off_target for phase, one in results.items() if one.off_target}
    if not found:
        return None
    pairs = list(dict.fromkeys((tier, language) for tiers in found.values() for tier, languages in tiers.items() for language in languages))
    rows: list[list[Child]] = [
        [words(tier), "all" if language == "all" else language, *(decimal(tiers.get(tier, {}).get(language)) for tiers in found.values())]
        for tier, language in pairs[:_OFF_TARGET]
    ]
    left = f"; {len(pairs) - _OFF_TARGET} more left out" if len(pairs) > _OFF_TARGET else ""
    caption = f"Bits per byte on samples of each tier, by language: what a phase costs where it does not aim{left}"
    return join(tag("h3", "Off the target"), table(["tier", "language", *(f"after {phase}" for phase in found)], rows, texts=2, caption=caption))


def _annotator(results: Mapping[str, Results]) -> Markup | None:
    """The annotator's measure beside the model's: the paper found them to rise together."""
    auc = next((one.annotator["roc_auc"] for one in reversed(list(results.values())) if one.annotator and one.annotator.get("roc_auc") is not None), None)
    if auc is None:
        return None
    return tag("p", f"The annotator that chose the high-quality tier has ROC-AUC {decimal(auc)}; in the paper it rises with the scores above.", class_="note")
