"""The annotator: what it learned from, how well it tells good files from random ones, what it chose."""

from __future__ import annotations

from itertools import pairwise

from megatron_snow.report.annotation import Annotation, Decile, Encoder, Selected, Side
from megatron_snow.report.charts import Line, figure, horizontal, line_chart
from megatron_snow.report.html import Child, Markup, join, tag
from megatron_snow.report.numbers import DASH, count, decimal, of, share, wilson
from megatron_snow.report.parts import Alert, Sample, Section, absent, grid, missing, samples, table
from megatron_snow.report.road_view import RoadView
from megatron_snow.report.rows import histogram

_HISTOGRAMS = 12  # languages with a plot of their own, most files first (ours: three rows of four; the table has all)
_LANGUAGES = 40  # rows of the table, most of the mix first (ours: the paper has 18)
_FEWEST = 5  # files for a plot (ours)


def section(road: RoadView) -> Section:
    """Built from annotate/summary.json."""
    artefact = road.stage("annotate")
    if artefact is None:
        return absent("annotator", "Annotator", "annotate")
    found = artefact.read("summary.json", Annotation)
    if found is None:
        return Section("annotator", "Annotator", None, [missing("summary of the annotator", "The annotate artefact holds no summary.json.")])
    body: list[Child] = [
        tag("h3", "What it learned from"),
        _sources(found),
        _caution(found),
        grid([_roc(found), _calibration(found), _losses(found), _all_scores(found)]),
        missing("calibration", "The annotate artefact holds none.") if _calibration(found) is None else None,
        _rounds(found),
        tag("h3", "Scores by language"),
        _histograms(found),
        _selection(found),
        tag("h3", "Example files from the lowest to the highest tenth of scores"),
        tag("div", [_decile(index, decile) for index, decile in enumerate(found.deciles)])
        if found.deciles
        else missing("example files", "The summary names none."),
    ]
    return Section("annotator", "Annotator", _lead(found), body)


def _lead(found: Annotation) -> Markup:
    auc, files = found.validation, sum(one.files for one in found.selection.values())
    taken, tokens = sum(one.selected for one in found.selection.values()), sum(one.selected_tokens for one in found.selection.values())
    return join(
        f"On repositories it has not seen, the annotator ranks a positive above a random file with probability {decimal(auc.auc)} ",
        f"(± {decimal(auc.standard_error)}, n = {count(auc.positives)} + {count(auc.negatives)}). ",
        f"It chose {count(taken)} of {count(files)} scored files ({share(taken, files)}): {count(tokens)} tokens.",
    )


def _sources(found: Annotation) -> Markup:
    """Who vouches for the positives decides what the score means, so this comes first."""

    def side(name: str, part: Side) -> str:
        return f"{name}: {count(part.positives)} positives, {count(part.negatives)} negatives, {of(part.repositories, 'repository')}"

    about, head = found.encoder, found.head
    own = [name for name in head.heads if name != "*"] if head else []
    stands = f"a linear {head.task} head, {_calibrated(head.calibration)}" if head else "a linear head"
    stands += f"; own heads for {', '.join(own)}" if own else ""
    return join(
        table(
            ["files", "what they are", "asked for", "found"],
            [[one.kind, one.stands_for, count(one.asked), count(one.found)] for one in found.labelled.sources],
            texts=2,
        ),
        tag(
            "p",
            f"Encoder {about.name} ({_kind(about)}) with {stands}; a file's score is the mean over its top, middle and bottom sections. ",
            f"{side('Training', found.labelled.training)}; {side('validation', found.labelled.validation)}.",
            class_="note",
        ),
    )


def _kind(about: Encoder) -> str:
    trained = "fine-tuned" if about.tuned else "frozen"
    return f"{trained}, {about.width} wide, {about.pooling} pooling, sections of {about.section} tokens, {about.precision}"


def _calibrated(method: str) -> str:
    return "not calibrated" if method == "none" else f"calibrated ({method})"


def _no_better_than_a_coin(found: Annotation) -> str | None:
    """Said where the measurement cannot tell the annotator from a coin."""
    auc = found.validation
    if auc.auc - 2 * auc.standard_error > 0.5:
        return None
    return f"With {count(auc.positives)} positives and {count(auc.negatives)} negatives this ROC-AUC cannot be told from 0.5, a coin's: label more files."


def _caution(found: Annotation) -> Markup | None:
    text = _no_better_than_a_coin(found)
    return tag("p", text, class_="caution") if text else None


def alerts(road: RoadView) -> list[Alert]:
    """An annotator that cannot be told from a coin."""
    artefact = road.stage("annotate")
    found = artefact.read("summary.json", Annotation) if artefact else None
    text = _no_better_than_a_coin(found) if found else None
    return (
        [Alert("annotator", text, "annotator", f"ROC-AUC {decimal(found.validation.auc)} ± {decimal(found.validation.standard_error)}.")]
        if text and found
        else []
    )


def _roc(found: Annotation) -> Markup:
    auc = found.validation
    drawing = line_chart(
        f"ROC curve, area {auc.auc:.3f}",
        [Line("chance", [(0, 0), (1, 1)], 0, dashed=True), Line("annotator", auc.points, 1)],
        horizontal(0, 1), (0, 1), ("share of random files above the cut", "share of positives above the cut"),
    )  # fmt: skip
    within = (
        f" Among files of one language {decimal(auc.within_languages)}: selection is per language, so this is what it works with."
        if auc.within_languages
        else ""
    )
    note = (
        f"Area {decimal(auc.auc)} ± {decimal(auc.standard_error)} (Hanley and McNeil) on {count(auc.positives)} positives and {count(auc.negatives)} negatives."
    )
    return figure("ROC curve on unseen repositories", drawing, note + within)


def _calibration(found: Annotation) -> Markup | None:
    """Whether files of a predicted probability are positives that often; None where it was not measured."""
    measured = found.validation.calibration
    if measured is None or not measured.bins:
        return None
    points = [(one.predicted, one.observed) for one in measured.bins]
    intervals = [
        Line(f"95 % interval, {of(one.files, 'file')}", [(one.predicted, end) for end in wilson(round(one.observed * one.files), one.files)], 1)
        for one in measured.bins
    ]
    drawing = line_chart(
        f"calibration of the annotator, mean error {measured.error:.3f}",
        [Line("perfect", [(0, 0), (1, 1)], 0, dashed=True), *intervals, *(Line(of(one.files, "file"), [point], 1) for one, point in
                                                                       zip(measured.bins, points, strict=True))],
        horizontal(0, 1), (0, 1), ("predicted probability of a positive", "share of positives"),
    )  # fmt: skip
    note = f"Mean distance {decimal(measured.error)}, Brier score {decimal(measured.brier)}; on the dashed line a prediction is what happens. Uprights: 95 %."
    if not measured.cross_fitted and found.head and found.head.calibration != "none":
        note += " Fitted to the very files it is measured on, as there were too few to do without: this flatters."
    return figure("Calibration on unseen repositories", drawing, note)


def _rounds(found: Annotation) -> Markup | None:
    if len(found.rounds) < 2:
        return None
    rows = [[str(one.round), count(one.added), decimal(one.auc)] for one in found.rounds]
    return table(["round", "hard negatives added", "ROC-AUC"], rows, caption="Rounds of hard negatives: files that the head before took for good")


def _losses(found: Annotation) -> Markup | None:
    if len(found.losses) < 2:
        return None
    lines = [Line(name, [(float(epoch), loss) for epoch, loss in enumerate(losses, start=1)], tint)
             for name, losses, tint in (("training", found.losses, 1), ("unseen repositories", found.validation_losses, 2)) if losses]  # fmt: skip
    top = max(loss for line in lines for _, loss in line.points) * 1.05
    regression = found.head is not None and found.head.task == "regression"
    axes = ("epoch", "squared error" if regression else "cross-entropy, nats")
    drawing = line_chart("loss of the head by epoch", lines, horizontal(1, max(len(line.points) for line in lines)), (0, top), axes)
    note = f"Training: from {decimal(found.losses[0])} to {decimal(found.losses[-1])}" + ("." if regression else "; a coin's is 0.693.")
    note += f" The head of epoch {found.best_epoch} is kept." if found.best_epoch else ""
    return figure("Training of the head", drawing, note, [(line.name, line.colour) for line in lines] if len(lines) > 1 else ())


def _all_scores(found: Annotation) -> Markup:
    edges, by_language = found.histogram.edges, found.histogram.languages.values()
    totals = [float(sum(column)) for column in zip(*by_language, strict=True)] or [0.0] * (len(edges) - 1)
    drawing = line_chart(
        "scores of all files",
        [Line("files", [point for (low, high), total in zip(pairwise(edges), totals, strict=True) for point in ((low, total), (high, total))], 1)],
        horizontal(edges[0], edges[-1]), (0, max([*totals, 1]) * 1.05), ("score", "files"),
    )  # fmt: skip
    return figure("Scores of all scored files", drawing, f"{count(sum(totals))} files in {len(totals)} bins; by language below.")


def _histograms(found: Annotation) -> Markup:
    by_size = sorted(found.histogram.languages.items(), key=lambda item: (-sum(item[1]), item[0]))
    plotted = [(language, counts) for language, counts in by_size[:_HISTOGRAMS] if sum(counts) >= _FEWEST] or by_size[:1]
    plots = []
    for language, counts in plotted:
        chosen = found.selection.get(language)
        drawing = histogram(f"scores of {language} files", found.histogram.edges, counts, chosen.threshold if chosen else None)
        plots.append(figure(language, drawing, f"{of(sum(counts), 'file')}, {count(chosen.selected) if chosen else 0} chosen"))
    note = (
        f"In colour: chosen. {of(len(by_size) - len(plots), 'language')} with fewer files: see the table."
        if len(by_size) > len(plots)
        else "In colour: chosen."
    )
    return join(grid(plots, "plots small"), tag("p", note, class_="note"))


def _selection(found: Annotation) -> Markup:
    def row(language: str, one: Selected) -> list[Child]:
        auc = found.validation.languages.get(language)
        measured = f"{decimal(auc.auc)} ± {decimal(auc.standard_error)}" if auc else DASH
        cells = [count(one.files), count(one.selected), share(one.selected, one.files), decimal(one.threshold, 2)]
        return [language, *cells, count(one.selected_tokens), share(one.mix, 1), measured]

    ordered = sorted(found.selection.items(), key=lambda item: (-item[1].mix, item[0]))
    return table(
        ["language", "scored", "chosen", "share", "lowest score", "tokens", "corpus mix", "ROC-AUC"],
        [row(language, one) for language, one in ordered[:_LANGUAGES]],
        caption="Chosen per language from the top down to its share of the token budget, which keeps the corpus's language mix"
        + _repeated(found)
        + (f"; {of(len(ordered) - _LANGUAGES, 'smaller language')} left out" if len(ordered) > _LANGUAGES else ""),
    )


def _repeated(found: Annotation) -> str:
    if found.repetition is None:
        return ""
    return f"; the budget is {count(found.repetition.horizon)} tokens of training as {found.repetition.times:g} passes over {count(found.repetition.unique)}"


def _decile(index: int, decile: Decile) -> Markup | None:
    shown = [
        Sample(one.id, one.snippet, [one.language, f"score {one.score:.3f}", f"{count(one.tokens)} tokens", "chosen" if one.selected else "not chosen"])
        for one in decile.examples
    ]
    return samples(
        join(tag("b", f"{10 * index} to {10 * (index + 1)} %"), f" scores {decile.lowest:.3f} to {decile.highest:.3f}, {of(decile.files, 'file')}"), shown
    )
