"""The synthesize arrow: high-quality tier -> synthetic tier.

    seeds -> prompts -> [endpoints, many requests in flight] -> journal -> judged answers -> documents

What is asked is decided before anything is asked, and what is kept is decided from the journal in the order of the requests: two
runs that got the same answers, in whatever order and after whatever interruptions, write the same documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from megatron_snow.artifacts.documents import read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.corpus.settings import DecontaminationSettings
from megatron_snow.synthesis.journal import Journal
from megatron_snow.synthesis.judging import Brief
from megatron_snow.synthesis.prompt import load_prompt
from megatron_snow.synthesis.questions import Questions
from megatron_snow.synthesis.run import Run
from megatron_snow.synthesis.seeds import draw_seeds
from megatron_snow.synthesis.server import model_name
from megatron_snow.synthesis.settings import SynthesizeSettings
from megatron_snow.synthesis.syntax import LANGUAGES
from megatron_snow.synthesis.wire import Sampling


def synthesize(settings: SynthesizeSettings, seed: int, quality: Path, tokenizer: Path, work: Path, decontamination: DecontaminationSettings) -> dict[str, Any]:
    """Ask for documents seeded by ``quality/high_quality`` and write those that pass. Goes on from ``work/journal.jsonl``. Returns counts.

    ``tokenizer``: the tokenizer arrow's folder, which counts accepted documents. ``decontamination``: the corpus's, so that both tiers lack the same.

    Writes ``synthetic/*.jsonl.zst`` (rows of ``artifacts.documents``, sorted by language, then in the order of the requests),
    ``journal.jsonl`` (every answer, ``journal.Answer``) and ``summary.json``: ``requests``, ``answers``, ``unanswered``, ``accepted``,
    ``drops`` (reason -> language -> count), ``examples`` (reason -> seed_id, language, detail, snippet), ``languages`` (asked, accepted, bytes),
    ``prompt_tokens``, ``completion_tokens`` (both as the servers count), ``accepted_tokens`` (of the documents, as ``tokenizer`` counts),
    ``seeds`` (drawn, skipped by reason), ``model``, ``prompt`` (name, sha256), ``ended`` (which limit ended the run: requests, tokens or seeds).

    Raises SnowError where there are no seeds, no tokenizer, no server, a wrong model or key, a broken prompt, where no answer passes, or where
    requests stayed unanswered before the token limit was reached.
    """
    prompt = load_prompt(settings.prompt)
    tier = quality / "high_quality"
    draw = draw_seeds(read_documents(tier), settings.seed_lines, settings.seed_characters, settings.python_share, settings.requests, seed)
    if not draw.seeds:
        raise SnowError(f"{tier} gives no seed ({_listed(draw.skipped) or 'it has no documents'}); annotate must select documents in: {', '.join(LANGUAGES)}")
    model = settings.model if settings.local is None else model_name(settings.local)
    sampling = Sampling(model, settings.temperature, settings.top_p, settings.frequency_penalty, settings.max_tokens, settings.stop)
    questions = Questions(draw.seeds, prompt, sampling, seed)
    brief = Brief(tokenizer, decontamination, settings.min_characters, settings.near_duplicates)
    with Journal(work / "journal.jsonl") as journal:
        run = Run(settings, questions, brief, journal)
        run.recall()
        run.ask()
        kept = run.settle(lambda ids: (row for row in read_documents(tier) if row["id"] in ids))
        if not kept:
            raise SnowError(f"none of {run.tally.answers} answers became a document ({_listed(run.tally.reasons())}); {_advice(settings)}")
        write_documents(work / "synthetic", run.documents(kept))
    summary = run.summary(kept) | {
        "seeds": {"drawn": len(draw.seeds), "skipped": draw.skipped}, "model": model, "prompt": {"name": settings.prompt, "sha256": prompt.sha256},
    }  # fmt: skip
    write_atomically(work / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return {name: summary[name] for name in ("requests", "answers", "unanswered", "accepted", "accepted_tokens", "ended", "model")} | {
        "dropped": run.tally.reasons(), "prompt_sha256": prompt.sha256,
    }  # fmt: skip


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def _advice(settings: SynthesizeSettings) -> str:
    return f"look at the answers in the journal; try another model than the one asked, another prompt than {settings.prompt!r}, or a larger max_tokens"
