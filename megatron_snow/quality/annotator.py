"""The annotate arrow: standard tier in, high-quality tier out.

    labelled files -> sections -> frozen encoder -> linear head -> scores of the tier -> selection per language -> high-quality tier

A file's score is the mean of the head's output over its TOP, MIDDLE and BOTTOM sections (paper section 2.3). Training the head on
frozen embeddings costs one pass of the encoder over the labelled files and seconds after that; fine-tuning the encoder (``fine_tune``)
costs some three passes an epoch. Nearly all the time goes into the encoder, so everything it has done is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from megatron_snow.artifacts.documents import Document, read_documents, write_documents
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import digest
from megatron_snow.artifacts.units import format_count
from megatron_snow.quality.settings import AnnotateSettings, JsonlPositives, JudgedPositives, ScoredPositives

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from megatron_snow.quality.encoder import SectionEncoder
    from megatron_snow.quality.survey import Survey
    from megatron_snow.quality.training import Labels

SNIPPET = 600  # characters of an example in the summary (ours)
DECILE_EXAMPLES = 2  # files shown of each tenth of the scores (ours)


def annotate(settings: AnnotateSettings, seed: int, corpus: Path, tokenizer: Path, work: Path) -> dict[str, Any]:
    """Train the annotator, score the standard tier ``corpus/standard``, select the high-quality tier; returns the counts.

    Writes ``work/high_quality/*.jsonl.zst`` (the tier, in the standard tier's row order, with ``score`` and ``tokens``),
    ``work/scores.parquet`` (id, language, repository, score, probability, tokens, bytes, sections, selected: a row for each scored file),
    ``work/labelled.parquet`` (id, repository, language, source, label, side, score), ``work/head.safetensors`` (weight [heads, width],
    bias [heads]), ``work/encoder`` where it was fine-tuned, and ``work/summary.json``:

    - ``encoder``: name, pooling, precision, section, width, tuned
    - ``head``: task, heads (languages with one of their own, ``*`` for all others), calibration
    - ``labelled``: for each source ``stands_for``, files asked for and found; ``training`` and ``validation`` counts by class and repositories
    - ``losses``, ``validation_losses``: the shared head's, an epoch each; ``best_epoch``; ``rounds`` of hard negatives: round, added, auc
    - ``validation``: auc, standard_error, positives, negatives, points (ROC), within_languages, languages -> auc, ..., calibration (brier,
      error, bins, cross_fitted), or spearman and rmse of a regression
    - ``histogram``: edges, languages -> counts; ``repetition``: horizon, times, unique
    - ``selection``: language -> files, tokens, mix, target, selected, selected_tokens, threshold, floor, at_threshold, at_threshold_selected
    - ``deciles``: tenths of the scores from the lowest: from, to, files, examples [{id, language, score, tokens, selected, snippet}]

    ``work`` may hold parts of a killed run with the same settings, seed and inputs; they are used and, at the end, removed.
    Raises SnowError where the encoder cannot be had, a source of positives is empty or broken, or nothing can be split or scored.
    """
    from megatron_snow.quality.cluster import score_elsewhere
    from megatron_snow.quality.crew import EncoderCrew
    from megatron_snow.quality.encoder import SectionEncoder
    from megatron_snow.quality.labelled import read_labelled
    from megatron_snow.quality.scoring import embed_labelled, score_tier
    from megatron_snow.quality.selection import language_tokens, select
    from megatron_snow.quality.survey import take_survey
    from megatron_snow.quality.training import train_annotator
    from megatron_snow.quality.validation import histogram
    from megatron_snow.tokens.encoder import load_tokenizer

    standard, parts = corpus / "standard", work / "parts"
    encoder = SectionEncoder(settings)
    survey = take_survey(settings, seed, standard)
    if absent := [language for language in settings.floors if language not in {*survey.files, "*"}]:
        say(f"  annotate.floors: the standard tier has no file in {', '.join(absent)}")
    encoder, folder, tuned = _tuned(encoder, settings, seed, standard, survey, work)
    if encoder.pack_tokens is None:
        say(f"  the encoder {settings.encoder} does not take sections in packs on {encoder.kind}: each is computed alone, which is slow on a GPU")
    with EncoderCrew(settings, encoder, folder) as crew:
        total = survey.labelled(settings)
        labelled = embed_labelled(crew, read_labelled(settings, seed, standard, survey), total, parts)
        heads, labels, trained = train_annotator(labelled, settings, seed)
        heads.save(work / "head.safetensors", {"encoder": settings.encoder, "pooling": encoder.pooling, "section": settings.section})
        score_elsewhere(settings, folder, crew, heads, standard, survey.sample, tokenizer, parts)
        scored = score_tier(crew, heads, standard, survey.sample, load_tokenizer(tokenizer), parts)
        if crew.computed.sections:
            say(f"  encoder: {crew.computed}")
    _write_labels(work / "labelled.parquet", labels, heads.file_scores(labelled.vectors, labelled.counts, labels.languages.tolist()))
    corpus_tokens = language_tokens(scored, survey.bytes)
    mask, selection = select(scored, corpus_tokens, settings.budget, settings.floors)
    deciles = _decile_rows(scored)
    snippets = _write_tier(standard, scored, mask, deciles, work)
    precision = str(encoder.precision).removeprefix("torch.")
    about = {"name": settings.encoder, "pooling": encoder.pooling, "section": settings.section, "precision": precision, "width": encoder.width}
    repetition = settings.repetition
    summary = {
        "encoder": {**about, "tuned": bool(tuned), **({"fine_tune": tuned} if tuned else {})},
        **trained,
        "histogram": histogram(scored["score"].to_numpy(), scored["language"].to_numpy(zero_copy_only=False)),
        "repetition": {"horizon": repetition.horizon, "times": repetition.times, "unique": repetition.unique} if repetition else None,
        "selection": selection,
        "deciles": _deciles(scored, mask, deciles, snippets),
    }
    write_atomically(work / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    shutil.rmtree(parts)
    return _counts(settings, survey, summary, sum(corpus_tokens.values()))


def source_fingerprint(settings: AnnotateSettings) -> str:
    """Changes with the files outside the road that the settings name: jsonl, parquet, what people judged, a local encoder (sizes and times, cheap).

    An encoder's folders within its own count: how sentence-transformers pool is said in ``1_Pooling/config.json``.
    """
    from megatron_snow.quality.audit.human import files_named

    named = [Path(source.path) for source in settings.positives if isinstance(source, JsonlPositives | ScoredPositives)]
    named += [file for source in settings.positives if isinstance(source, JudgedPositives) for file in files_named(Path(source.path))]
    named = [Path(settings.labels.path)] if settings.labels else named
    folder = Path(settings.encoder)
    found = named + (sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [])
    return digest([[str(path), path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else [str(path), "missing"] for path in found])


def _tuned(
    encoder: SectionEncoder, settings: AnnotateSettings, seed: int, standard: Path, survey: Survey, work: Path
) -> tuple[SectionEncoder, str | None, dict[str, Any] | None]:
    """The encoder to use, its folder and how its training went: the given one with None and None where it stays frozen."""
    if settings.fine_tune is None:
        return encoder, None, None
    from megatron_snow.quality.encoder import SectionEncoder
    from megatron_snow.quality.fine_tune import fine_tune
    from megatron_snow.quality.labelled import read_labelled

    found = fine_tune(encoder, settings, seed, read_labelled(settings, seed, standard, survey), work / "encoder")
    return SectionEncoder(settings, str(work / "encoder")), str(work / "encoder"), found


def _write_labels(path: Path, labels: Labels, scores: np.ndarray) -> None:
    """labelled.parquet: which files the annotator was trained and judged on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": [example.name for example in labels.examples],
        "repository": [example.repository for example in labels.examples],
        "language": [example.language for example in labels.examples],
        "source": labels.source,
        "label": labels.label,
        "side": ["validation" if out else "training" if used else "pool" for out, used in zip(labels.held_out, labels.training, strict=True)],
        "score": scores,
    }
    pq.write_table(pa.table(columns), path)


def _decile_rows(scored: pa.Table) -> list[np.ndarray]:
    """Row numbers of ``scored`` in tenths, lowest scores first, ties by id."""
    import numpy as np
    import pyarrow.compute as pc

    order = pc.sort_indices(scored, sort_keys=[("score", "ascending"), ("id", "ascending")]).to_numpy()
    return [part for part in np.array_split(order, 10) if len(part)]


def _shown(rows: np.ndarray) -> list[int]:
    """The rows of a tenth that stand for it, evenly spaced in rank."""
    return [int(rows[(2 * i + 1) * len(rows) // (2 * DECILE_EXAMPLES)]) for i in range(min(DECILE_EXAMPLES, len(rows)))]


def _write_tier(standard: Path, scored: pa.Table, mask: np.ndarray, deciles: list[np.ndarray], work: Path) -> dict[str, str]:
    """Write the high-quality tier and scores.parquet; returns the beginnings of the files shown for the deciles, by id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(scored.append_column("selected", pa.array(mask)), work / "scores.parquet")
    selected = {row["id"]: (row["score"], row["tokens"]) for row in scored.filter(pa.array(mask)).select(["id", "score", "tokens"]).to_pylist()}
    ids = scored["id"]
    wanted = {ids[row].as_py() for rows in deciles for row in _shown(rows)}
    snippets: dict[str, str] = {}

    def chosen() -> Iterator[Document]:
        for document in read_documents(standard):
            name = document["id"]
            if name in wanted:
                snippets[name] = document["text"][:SNIPPET]
            if name in selected:
                score, tokens = selected[name]
                yield {**document, "score": score, "tokens": tokens}

    tier = work / "high_quality"
    shutil.rmtree(tier, ignore_errors=True)
    write_documents(tier, chosen())
    return snippets


def _deciles(scored: pa.Table, mask: np.ndarray, deciles: list[np.ndarray], snippets: dict[str, str]) -> list[dict[str, Any]]:
    result = []
    for rows in deciles:
        examples = []
        for row in _shown(rows):
            values = {name: scored[name][row].as_py() for name in ("id", "language", "score", "tokens")}
            examples.append({**values, "selected": bool(mask[row]), "snippet": snippets[values["id"]]})
        low, high = (scored["score"][int(row)].as_py() for row in (rows[0], rows[-1]))
        result.append({"from": low, "to": high, "files": len(rows), "examples": examples})
    return result


def _counts(settings: AnnotateSettings, survey: Survey, summary: dict[str, Any], corpus_tokens: float) -> dict[str, Any]:
    """What the manifest keeps; says so where the budget asks for more than there is."""
    languages = summary["selection"].values()
    scored, available = sum(one["files"] for one in languages), sum(one["tokens"] for one in languages)
    selected = sum(one["selected_tokens"] for one in languages)
    if settings.budget > available:
        say(f"  the budget of {format_count(settings.budget)} tokens is more than the {format_count(available)} scored: every scored file is selected")
    labelled, validation = summary["labelled"], summary["validation"]
    drawn = {kind: sum(one["found"] for one in labelled["sources"] if one["kind"] == kind) for kind in ("negatives", "hard_negatives")}
    return {
        "documents": sum(survey.files.values()),
        "corpus_tokens": round(corpus_tokens),
        "scored": scored,
        "scored_tokens": available,
        "selected": sum(one["selected"] for one in languages),
        "selected_tokens": selected,
        "budget_tokens": settings.budget,
        "shortfall_tokens": max(0, settings.budget - selected),
        "positives": sum(one["found"] for one in labelled["sources"]) - sum(drawn.values()),
        "negatives": sum(drawn.values()),
        "auc": validation["auc"],
        "auc_validation_files": validation["positives"] + validation["negatives"],
    }
