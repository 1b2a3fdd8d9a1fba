"""The page of ``snow validate-annotator``: one self-contained HTML file from the audit's numbers."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Any

from megatron_snow.report.charts import Line, figure, horizontal, line_chart
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import DASH, count, decimal
from megatron_snow.report.parts import Section, grid, missing, render, table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
Found = Mapping[str, Any]


def render_validation(found: Found) -> str:
    """The page's text, from what ``quality.audit.run.audit`` returns."""
    sections = [_benchmarks(found), _people(found), _keys(found), _edits(found), _agreement(found), _seeds(found)]
    style = importlib.resources.files("megatron_snow.report").joinpath("style.css").read_text(encoding="utf-8")
    about = found["annotator"]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "Annotator: validation"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
    )
    unseen = found["unseen"]
    lead = (
        f"Encoder {about['encoder']} ({about['pooling']} pooling, sections of {about['section']} tokens), {about['task']}, "
        f"heads: {', '.join(about['heads'])}. "
        f"{count(unseen['files'])} random files it was not trained on, {count(unseen['new_repositories'])} of them of repositories without a training file. "
        "Intervals are 95 % bootstrap intervals over repositories."
    )
    header = tag("header", tag("h1", "How good is the annotator, and what does it key on?"), tag("p", lead))
    return "<!doctype html>\n" + tag("html", head, tag("body", header, tag("main", [render(one) for one in sections])), lang="en") + "\n"


def interval(one: Found | None, digits: int = 3) -> str:
    """A value with its interval."""
    if one is None or one["value"] is None:
        return DASH
    around = one["interval"]
    return decimal(one["value"], digits) + (f" [{decimal(around[0], digits)}, {decimal(around[1], digits)}]" if around else "")


def _benchmarks(found: Found) -> Section:
    rows = found["benchmarks"]
    if not rows:
        return Section("benchmarks", "Benchmark solutions", None, [missing("benchmark", "None was asked for (--benchmark).")])
    lines = [Line("chance", [(0, 0), (1, 1)], 0, dashed=True)]
    lines += [Line(one["name"], [tuple(point) for point in one["points"]], index) for index, one in enumerate(rows, start=1)]
    drawing = line_chart("ROC curves", lines, horizontal(0, 1), (0, 1), ("share of random files above the cut", "share of solutions above the cut"))
    legend = [(line.name, line.colour) for line in lines[1:]]
    cells: list[list[Child]] = [
        [one["name"], interval({"value": one["auc"], "interval": one["interval"]}), count(one["solutions"]), count(one["random"])] for one in rows
    ]
    lead = "The paper's proxy: how often a benchmark's solution is scored above a random Python file that the annotator has not seen. "
    note = "It rises almost with pass@1 (paper, figure 2); it also rewards mere likeness to short, documented functions."
    body = [figure("ROC curves", drawing, note, legend, lined=False), table(["benchmark", "ROC-AUC", "solutions", "random files"], cells)]
    return Section("benchmarks", "Benchmark solutions", lead, body)


def _people(found: Found) -> Section:
    labels = found["labels"]
    if labels is None:
        return Section("people", "People's labels", None, [missing("labels", "Give a CSV with the columns path and label (--labels).")])
    bins = labels["calibration"]["bins"]
    curve = Line("observed", [(one["predicted"], one["observed"]) for one in bins], 1, marks=True)
    lines = [Line("perfect", [(0, 0), (1, 1)], 0, dashed=True), curve]
    drawing = line_chart("calibration", lines, horizontal(0, 1), (0, 1), ("predicted", "share that people call good"))
    note = f"Brier score {decimal(labels['calibration']['brier'])}, expected calibration error {decimal(labels['calibration']['error'])}."
    ranks = f"{count(labels['files'])} files: Spearman {interval(labels['spearman'])}"
    lead = f"{ranks}, ROC-AUC {interval(labels['auc'])} for labels above {labels['good']['label_above']:g}."
    cells: list[list[Child]] = [[f"{one['from']:g} to {one['to']:g}", count(one["files"]), decimal(one["predicted"]), decimal(one["observed"])] for one in bins]
    return Section("people", "People's labels", lead, [figure("Calibration", drawing, note), table(["probability", "files", "predicted", "observed"], cells)])


def _keys(found: Found) -> Section:
    rows = found["keys"]["correlations"]
    languages = list(dict.fromkeys(row["language"] for row in rows))
    cells: list[list[Child]] = []
    for trait in dict.fromkeys(row["trait"] for row in rows):
        by_language = {row["language"]: row for row in rows if row["trait"] == trait}
        cells.append([trait.replace("_", " "), *(interval(by_language.get(language), 2) for language in languages)])
    explained = found["keys"]["explained"]
    lead = (
        "Spearman's correlation of the score with what anyone can count. Of the variance of the scores' ranks, language explains "
        f"{decimal(explained['language'], 2)} and repository {decimal(explained['repository'], 2)} (epsilon squared)."
    )
    return Section("keys", "What the score goes with", lead, [table(["trait", *(language or "all" for language in languages)], cells)])


def _edits(found: Found) -> Section:
    rows = found["keys"]["edits"]
    if not rows:
        return Section("edits", "Counterfactual edits", None, [missing("edits", "None was asked for (--edited).")])
    cells: list[list[Child]] = [
        [
            one["edit"],
            interval({"value": one["change"], "interval": one["interval"]}),
            interval({"value": one["rank_change"], "interval": one["rank_interval"]}),
            count(one["files"]),
        ]
        for one in rows
    ]
    lead = "The same programs with one thing changed: the mean change of the score, and of the rank as a share of the unseen files."
    return Section("edits", "Counterfactual edits", lead, [table(["edit", "change of score", "change of rank", "files"], cells)])


def _agreement(found: Found) -> Section:
    rows = found["agreement"]
    if not rows:
        return Section("agreement", "Other annotators", None, [missing("other annotator", "Name one to compare ranks with (--against).")])
    cells: list[list[Child]] = [
        [one["other"], interval(one["spearman"]), interval(one["kendall"]), interval(one["selected_overlap"]), count(one["files"])] for one in rows
    ]
    lead = "Ranks of the files that both scored, and the overlap (Jaccard) of what both selected."
    return Section("agreement", "Other annotators", lead, [table(["annotator", "Spearman", "Kendall", "overlap", "files"], cells)])


def _seeds(found: Found) -> Section:
    seeds = found["seeds"]
    if seeds is None:
        return Section("seeds", "Other seeds", None, [missing("seeds", "Ask for an ablation (--seeds 3).")])
    between, overlap = seeds["spearman_between"], seeds["selected_overlap"]
    lead = join(
        f"The same settings with {count(len(seeds['seeds']) - 1)} other seeds for samples, split and head: Spearman between their scores of the same files ",
        f"{decimal(between['mean'])} on average, {decimal(between['least'])} at least; overlap of the top {100 * overlap['share']:.0f} % ",
        f"{decimal(overlap['mean'])} and {decimal(overlap['least'])}.",
    )
    cells: list[list[Child]] = [[str(seed), decimal(auc)] for seed, auc in zip(seeds["seeds"], seeds["auc"], strict=True)]
    return Section("seeds", "Other seeds", lead, [grid([table(["seed", "ROC-AUC on its held-out repositories"], cells)])])
