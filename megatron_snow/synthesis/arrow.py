"""The synthesize arrow: high-quality tier -> synthetic tier.

    seeds -> prompts -> [endpoints, many requests in flight] -> journal -> judged answers -> documents

What is asked is decided before anything is asked, and what is kept is decided from the journal in the order of the requests: two
runs that got the same answers, in whatever order and after whatever interruptions, write the same documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from megatron_snow.artifacts.documents import read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import kept_folder, write_atomically
from megatron_snow.corpus.settings import DecontaminationSettings, LicenseSettings, RedactionSettings
from megatron_snow.synthesis.checks import PASSED
from megatron_snow.synthesis.diversity import diversity
from megatron_snow.synthesis.gathering import gather
from megatron_snow.synthesis.journal import Journal
from megatron_snow.synthesis.judging import Brief
from megatron_snow.synthesis.prompt import load_prompt
from megatron_snow.synthesis.questions import Questions
from megatron_snow.synthesis.run import Run
from megatron_snow.synthesis.seeds import draw_seeds
from megatron_snow.synthesis.server import model_name
from megatron_snow.synthesis.settings import JOURNAL, SynthesizeSettings
from megatron_snow.synthesis.syntax import LANGUAGES
from megatron_snow.synthesis.wire import Sampling

if TYPE_CHECKING:
    from megatron_snow.quality.settings import AnnotateSettings


def synthesize(
    settings: SynthesizeSettings, seed: int, quality: Path, tokenizer: Path, work: Path, decontamination: DecontaminationSettings, *,
    redaction: RedactionSettings | None = None, licenses: LicenseSettings | None = None, encoder: AnnotateSettings | None = None, standard: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Ask for documents seeded by ``quality/high_quality`` and write those that pass. Goes on from ``work/journal.jsonl``. Returns counts.

    Where ``work`` is an artefact being made, answers to the same requests are used again: those of the artefact that it will replace, and those of
    runs with other settings that were not finished.

    ``tokenizer``: the tokenizer arrow's folder, which counts accepted documents. ``redaction`` and ``licenses``: the corpus's,
    ``decontamination``: the corpus's and what evaluation reports beyond it. ``encoder`` (the annotator's) and ``standard`` (the
    standard tier): what the diversity report needs, left out of it where None.

    Writes ``synthetic/*.jsonl.zst`` (rows of ``artifacts.documents``, sorted by language, then in the order of the requests), ``verified/`` alike
    (the part of it whose own tests pass, where ``settings.verify``), ``journal.jsonl`` (every answer, ``journal.Answer``), ``diversity.json``
    (see ``diversity``) and ``summary.json``: ``requests``, ``answers``, ``unanswered`` (failed for good), ``accepted``, ``drops`` (reason ->
    language -> count), ``examples`` (reason -> seed_id, language, detail, snippet), ``languages`` (asked, accepted, bytes), ``prompt_tokens``,
    ``completion_tokens`` (both as the servers count), ``accepted_tokens`` (of the documents, as ``tokenizer`` counts), ``spent``, ``verified`` (how
    programs ended), ``lint``, ``seeds`` (drawn, skipped by reason), ``model``, ``prompt`` (name, sha256), ``styles`` (prompt -> asked, accepted),
    ``ended`` (which limit ended the run: requests, tokens, seeds or spend).

    Raises SnowError where there are no seeds, no tokenizer, no server, a wrong model or key, a broken prompt, where no answer passes, or where
    more requests failed for good than the settings allow.
    """
    prompts = tuple(load_prompt(name) for name in settings.prompts)
    tier = quality / "high_quality"
    draw = draw_seeds(read_documents(tier), settings.seed_lines, settings.seed_characters, settings.python_share, settings.requests, seed)
    if not draw.seeds:
        raise SnowError(f"{tier} gives no seed ({_listed(draw.skipped) or 'it has no documents'}); annotate must select documents in: {', '.join(LANGUAGES)}")
    model = settings.model if settings.local is None else model_name(settings.local)
    sampling = Sampling(model, settings.temperature, settings.top_p, settings.frequency_penalty, settings.max_tokens, settings.stop)
    questions = Questions(draw.seeds, prompts, sampling, seed)
    own_words = tuple(words for prompt in prompts for words in prompt.own_words())
    brief = Brief(tokenizer, decontamination, redaction or RedactionSettings(), settings.min_characters, settings.near_duplicates, own_words, licenses)
    with Journal(work / JOURNAL) as journal:
        run = Run(settings, questions, brief, journal)
        run.recall(*_earlier(work))
        run.ask()
        kept = run.check(run.settle(lambda ids: (row for row in read_documents(tier) if row["id"] in ids)), work)
        if not kept:
            raise SnowError(f"none of {run.tally.answers} answers became a document ({_listed(run.tally.reasons())}); {_advice(settings)}")
        write_documents(work / "synthetic", run.documents(kept))
        if run.verified is not None:
            passed = {request for request, status in run.verified.items() if status == PASSED}
            rows = (row for row in read_documents(work / "synthetic") if row["path"] in passed)
            write_documents(work / "verified", rows)
    if settings.diversity is not None:
        sets = gather(work / "synthetic", {one.document_id: one.text for one, _ in kept}, tier, standard, settings.diversity.sample, seed)
        found = diversity(sets, settings.diversity, encoder if settings.diversity.embeddings else None, seed)
        if found is not None:
            write_atomically(work / "diversity.json", orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    described = {"name": ", ".join(settings.prompts), "sha256": ", ".join(prompt.sha256 for prompt in prompts)}
    summary = run.summary(kept) | {
        "seeds": {"drawn": len(draw.seeds), "skipped": draw.skipped}, "model": model, "prompt": described, "styles": run.styles(kept),
    }  # fmt: skip
    write_atomically(work / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return {name: summary[name] for name in ("requests", "answers", "unanswered", "accepted", "accepted_tokens", "ended", "model")} | {
        "dropped": run.tally.reasons(), "prompt_sha256": described["sha256"],
    }  # fmt: skip


def _earlier(work: Path) -> tuple[list[Path], list[Path]]:
    """Journals of the artefact that ``work`` will replace, and of unfinished runs with other settings."""
    if not work.name.endswith(".building"):
        return [], []
    folder = work.with_name(work.name.removesuffix(".building"))
    return [path for path in (folder / JOURNAL,) if path.exists()], sorted(kept_folder(folder).glob(f"*-{JOURNAL}"))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _advice(settings: SynthesizeSettings) -> str:
    return (
        f"look at the answers in the journal; try another model than the one asked, another prompt than {', '.join(settings.prompts)}, or a larger max_tokens"
    )
