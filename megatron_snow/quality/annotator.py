"""The annotate arrow: standard tier in, high-quality tier out.

    labelled files -> sections -> frozen encoder -> linear head -> scores of the tier -> selection per language -> high-quality tier

A file's score is the mean of the head's probability over its TOP, MIDDLE and BOTTOM sections (paper section 3.2). Training the head on
frozen embeddings costs one pass of the encoder over the labelled files and seconds after that; fine-tuning the encoder could
score better and would cost that pass an epoch. Nearly all the time goes into the encoder, so everything it has done is kept.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from megatron_snow.artifacts.documents import Document, read_documents, write_documents
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import digest
from megatron_snow.artifacts.units import format_count
from megatron_snow.quality.settings import AnnotateSettings, JsonlPositives

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from megatron_snow.quality.encoder import SectionEncoder
    from megatron_snow.quality.head import LinearHead
    from megatron_snow.quality.survey import Survey

SNIPPET = 600  # characters of an example in the summary (ours)
DECILE_EXAMPLES = 2  # files shown of each tenth of the scores (ours)


def annotate(settings: AnnotateSettings, seed: int, corpus: Path, tokenizer: Path, work: Path) -> dict[str, Any]:
    """Train the annotator, score the standard tier ``corpus/standard``, select the high-quality tier; returns the counts.

    Writes ``work/high_quality/*.jsonl.zst`` (the tier, in the standard tier's row order, with ``score`` and ``tokens``),
    ``work/scores.parquet`` (id, language, repository, score, tokens, bytes, sections, selected: a row for each scored file),
    ``work/head.safetensors`` (weight [1, width], bias [1]) and ``work/summary.json``:

    - ``encoder``: name, pooling, precision, section, width
    - ``labelled``: for each source ``stands_for``, files asked for and found; ``training`` and ``validation`` counts by class and repositories
    - ``losses``: the head's mean training loss, an epoch each
    - ``validation``: auc, standard_error, positives, negatives, points (ROC), within_languages, languages -> auc, ...
    - ``histogram``: edges, languages -> counts
    - ``selection``: language -> files, tokens, mix, target, selected, selected_tokens, threshold
    - ``deciles``: tenths of the scores from the lowest: from, to, files, examples [{id, language, score, tokens, selected, snippet}]

    ``work`` may hold parts of a killed run with the same settings, seed and inputs; they are used and, at the end, removed.
    Raises SnowError where the encoder cannot be had, a source of positives is empty or broken, or nothing can be split or scored.
    """
    from megatron_snow.quality.encoder import SectionEncoder
    from megatron_snow.quality.scoring import score_tier
    from megatron_snow.quality.selection import language_tokens, select
    from megatron_snow.quality.survey import take_survey
    from megatron_snow.quality.validation import histogram
    from megatron_snow.tokens.encoder import load_tokenizer

    standard, parts = corpus / "standard", work / "parts"
    encoder = SectionEncoder(settings)
    survey = take_survey(settings, seed, standard)
    head, trained = _train(settings, seed, standard, survey, encoder, parts)
    about = {"encoder": settings.encoder, "pooling": settings.pooling, "section": str(settings.section)}
    head.save(work / "head.safetensors", about)
    scored = score_tier(encoder, head, standard, survey.sample, load_tokenizer(tokenizer), parts)
    corpus_tokens = language_tokens(scored, survey.bytes)
    mask, selection = select(scored, corpus_tokens, settings.tokens)
    deciles = _decile_rows(scored)
    snippets = _write_tier(standard, scored, mask, deciles, work)
    precision = str(encoder.precision).removeprefix("torch.")
    summary = {
        "encoder": {"name": settings.encoder, "pooling": settings.pooling, "section": settings.section, "precision": precision, "width": encoder.width},
        **trained,
        "histogram": histogram(scored["score"].to_numpy(), scored["language"].to_numpy(zero_copy_only=False)),
        "selection": selection,
        "deciles": _deciles(scored, mask, deciles, snippets),
    }
    write_atomically(work / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    shutil.rmtree(parts)
    return _counts(settings, survey, summary, sum(corpus_tokens.values()))


def source_fingerprint(settings: AnnotateSettings) -> str:
    """Changes with the files outside the road that the settings name: jsonl positives and a local encoder (sizes and times, cheap)."""
    named = [source.path for source in settings.positives if isinstance(source, JsonlPositives)]
    folder = Path(settings.encoder)
    found = [Path(path) for path in named] + (sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else [])
    return digest([[str(path), path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else [str(path), "missing"] for path in found])


def _train(settings: AnnotateSettings, seed: int, standard: Path, survey: Survey, encoder: SectionEncoder, parts: Path) -> tuple[LinearHead, dict[str, Any]]:
    """The head, and what the summary says of its training and validation."""
    import numpy as np

    from megatron_snow.quality.head import train_head
    from megatron_snow.quality.labelled import NEGATIVE, read_labelled, split_by_repository, stands_for
    from megatron_snow.quality.scoring import embed_labelled
    from megatron_snow.quality.validation import validate

    total = sum(map(len, survey.positives)) + len(survey.negatives)
    labelled = embed_labelled(encoder, read_labelled(settings, seed, standard, survey), total, parts)
    examples = labelled.examples
    positive = np.array([example.source != NEGATIVE for example in examples])
    held_out = split_by_repository([example.repository for example in examples], positive, settings.head.validation, seed)
    head, losses = train_head(*labelled.part(~held_out), positive[~held_out], settings.head, seed)
    scores = head.file_scores(*labelled.part(held_out))
    found = validate(positive[held_out], scores, [example.language for example, out in zip(examples, held_out, strict=True) if out])
    files = f"{found['positives']} positives and {found['negatives']} negatives of unseen repositories"
    say(f"  annotator: ROC-AUC {found['auc']:.3f} +- {found['standard_error']:.3f} on {files}")

    drawn = Counter(example.source for example in examples)
    sources = [
        {"kind": source.kind, "stands_for": stands_for(source), "asked": source.count, "found": drawn[index]} for index, source in enumerate(settings.positives)
    ]
    sources.append(
        {"kind": "negatives", "stands_for": "random files of the standard tier, as in the paper", "asked": settings.negatives, "found": drawn[NEGATIVE]}
    )
    sides = {}
    for name, side in (("training", ~held_out), ("validation", held_out)):
        repositories = {example.repository for example, here in zip(examples, side, strict=True) if here}
        sides[name] = {"positives": int(positive[side].sum()), "negatives": int((~positive[side]).sum()), "repositories": len(repositories)}
    return head, {"labelled": {"sources": sources, **sides}, "losses": [round(loss, 6) for loss in losses], "validation": found}


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
    if settings.tokens > available:
        say(f"  the budget of {format_count(settings.tokens)} tokens is more than the {format_count(available)} scored: every scored file is selected")
    labelled, validation = summary["labelled"], summary["validation"]
    return {
        "documents": sum(survey.files.values()),
        "corpus_tokens": round(corpus_tokens),
        "scored": scored,
        "scored_tokens": available,
        "selected": sum(one["selected"] for one in languages),
        "selected_tokens": selected,
        "budget_tokens": settings.tokens,
        "shortfall_tokens": max(0, settings.tokens - selected),
        "positives": sum(source["found"] for source in labelled["sources"][:-1]),
        "negatives": labelled["sources"][-1]["found"],
        "auc": validation["auc"],
        "auc_validation_files": validation["positives"] + validation["negatives"],
    }
