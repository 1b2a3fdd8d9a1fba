"""The evaluate arrow: a Hugging Face model folder -> results.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.evaluation import heldout
from megatron_snow.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from megatron_snow.evaluation.language_model import LanguageModel
    from megatron_snow.evaluation.likelihood import Scored


def evaluate(settings: EvaluateSettings, seed: int, model: Path, corpus: Path, work: Path) -> dict[str, Any]:
    """Measure the Hugging Face ``model`` folder on ``corpus``/heldout and on HumanEval; returns the counts.

    Writes ``work``/humaneval.jsonl (a row for each problem, see ``humaneval.Verdict``), ``work``/bits.jsonl (a row for each scored text, see
    ``likelihood.Scored``: what paired comparisons of models draw from) and ``work``/results.json, which is the report's summary too::

        {"bits_per_byte": {"heldout": {"all": x, "Python": y, ...}, "humaneval_solutions": z},
         "humaneval": {"pass_at_1": share, "passed": n, "problems": n, "reasons": {reason: n}},
         "completions": [{"prompt": text, "completion": text}, ...],
         "measured": {"heldout_bytes": {language: n}, "heldout_documents": {language: n}, "dtype": "bf16"}}

    Bits per byte: see ``likelihood``; for HumanEval it is of the canonical solution given the prompt as the model gets
    it. A killed run with the same settings and inputs goes on with the problems not yet judged.
    Raises SnowError where the model folder, its tokenizer, the held-out tier or the problems are missing or broken.
    """
    groups = heldout.sample(corpus / "heldout", seed, settings.heldout_bytes, settings.document_bytes)
    problems = load_humaneval(settings.problems)[: settings.problem_limit]
    from megatron_snow.evaluation.language_model import load  # torch and transformers: seconds that plan and --help should not pay

    lm = load(model, settings.dtype)
    rows = _scored(settings, lm, groups, problems)
    write_atomically(work / "bits.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    bits = _bits_per_byte(rows)
    humaneval = _humaneval(settings, lm, problems, work / "humaneval.jsonl")
    sizes = {language: sum(len(text.encode()) for text in texts) for language, texts in groups.items()}
    measured = {"heldout_bytes": sizes, "heldout_documents": {language: len(texts) for language, texts in groups.items()}, "dtype": settings.dtype}
    results = {"bits_per_byte": bits, "humaneval": humaneval, "completions": _completions(settings, lm), "measured": measured}
    write_atomically(work / "results.json", (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    return {**humaneval, "bits_per_byte": bits["heldout"]["all"], "bits_per_byte_solutions": bits["humaneval_solutions"], "heldout_bytes": sum(sizes.values())}


def _scored(settings: EvaluateSettings, lm: LanguageModel, groups: dict[str, list[str]], problems: list) -> list[Scored]:
    from megatron_snow.evaluation.humaneval import prompt, solution
    from megatron_snow.evaluation.likelihood import continuation_rows, heldout_rows

    solutions = [(problem.task_id, "Python", prompt(problem), solution(problem)) for problem in problems]
    rows = heldout_rows(lm, groups, settings.overlap, settings.batch_tokens)
    return [*rows, *continuation_rows(lm, "HumanEval", solutions, settings.overlap, settings.batch_tokens)]


def _bits_per_byte(rows: list[Scored]) -> dict[str, Any]:
    from megatron_snow.evaluation.likelihood import by_language, per_byte

    heldout, solutions = ([row for row in rows if (row["set"] == "heldout") is held] for held in (True, False))
    return {"heldout": by_language(heldout), "humaneval_solutions": per_byte(solutions)}


def _humaneval(settings: EvaluateSettings, lm: LanguageModel, problems: list, journal: Path) -> dict[str, Any]:
    from megatron_snow.evaluation.humaneval import run

    verdicts = run(lm, problems, settings, journal)
    passed = sum(verdict["passed"] for verdict in verdicts)
    reasons = Counter(verdict["reason"] for verdict in verdicts)
    return {"pass_at_1": passed / len(verdicts), "passed": passed, "problems": len(verdicts), "reasons": dict(reasons.most_common())}


def _completions(settings: EvaluateSettings, lm: LanguageModel) -> list[dict[str, str]]:
    from megatron_snow.evaluation.generation import complete

    written = complete(lm, settings.prompts, settings.prompt_tokens)
    return [{"prompt": prompt, "completion": completion.text} for prompt, completion in zip(settings.prompts, written, strict=True)]
