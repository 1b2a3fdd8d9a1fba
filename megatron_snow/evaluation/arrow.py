"""The evaluate arrow: a Hugging Face model folder -> results.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.evaluation import heldout, libraries, programs
from megatron_snow.evaluation.off_target import annotator, off_target
from megatron_snow.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from megatron_snow.evaluation.language_model import LanguageModel
    from megatron_snow.evaluation.likelihood import Scored
    from megatron_snow.evaluation.passing import Verdict


def evaluate(
    settings: EvaluateSettings, seed: int, model: Path, corpus: Path, work: Path, *, tiers: Mapping[str, Path] | None = None, annotated: Path | None = None
) -> dict[str, Any]:
    """Measure the Hugging Face ``model`` folder on ``corpus``/heldout and on the benchmarks; returns the counts.

    ``tiers`` (name -> folder of documents): what else to measure bits per byte on (``off_target``). ``annotated``: the annotate artefact, whose
    ROC-AUC is shown beside the model's numbers.

    Writes a ``work``/<benchmark>.jsonl (a row for each sample, see ``passing.Verdict``; ``/`` in a name becomes ``.``), ``work``/bits.jsonl (a row for
    each scored text, see ``likelihood.Scored``: what paired comparisons of models draw from) and ``work``/results.json, which is the report's summary too::

        {"bits_per_byte": {"heldout": {"all": x, "Python": y, ...}, "solutions": {benchmark: x, ...}, "humaneval_solutions": z},
         "benchmarks": {benchmark or group: {"problems": n, "samples": n, "temperature": t, "pass_at": {"1": {"score": x, "low": x, "high": x}, ...},
                        "base_pass_at": the same or null, "reasons": {reason: n}, "bits_per_byte": x, "members": [benchmark, ...] of a group}},
         "humaneval": {"pass_at_1": share, "passed": n, "problems": n, "reasons": {reason: n}},
         "off_target": {tier: {"all": x, "Python": y, ...}, ...}, "annotator": {"roc_auc": x, "standard_error": y},
         "completions": [{"prompt": text, "completion": text}, ...],
         "measured": {"heldout_bytes": {language: n}, "heldout_documents": {language: n}, "dtype": "bf16"}}

    Bits per byte: see ``likelihood``; of a benchmark it is of the canonical solutions given the prompts as the model gets
    them. ``off_target`` and ``annotator`` are there where tiers and an annotator are given, ``humaneval`` and ``humaneval_solutions`` where HumanEval
    is among the benchmarks. With ``samples`` 0 no program is run: ``benchmarks`` is empty, and bits per byte are of all problems.
    A killed run with the same settings and inputs goes on with the samples not yet judged.
    Raises SnowError where the model folder, its tokenizer, the held-out tier or the problems are missing or broken.
    """
    groups = heldout.sample(corpus / "heldout", seed, settings.heldout_bytes, settings.document_bytes)
    problems = _problems(settings)
    from megatron_snow.evaluation.language_model import load  # torch and transformers: seconds that plan and --help should not pay

    lm = load(model, settings.dtype)
    rows = _scored(settings, lm, groups, problems)
    write_atomically(work / "bits.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    bits = _bits_per_byte(rows, list(problems))
    further: dict[str, Any] = {"off_target": costs} if (costs := off_target(settings, seed, lm, tiers or {}, work)) else {}
    if annotated is not None:
        further["annotator"] = annotator(annotated)
    scores, human = _benchmarks(settings, seed, lm, problems, bits["solutions"], model.name, work) if settings.samples else ({}, {})
    sizes = {language: sum(len(text.encode()) for text in texts) for language, texts in groups.items()}
    measured = {"heldout_bytes": sizes, "heldout_documents": {language: len(texts) for language, texts in groups.items()}, "dtype": settings.dtype}
    results = {"bits_per_byte": bits, "benchmarks": scores, **human, **further, "completions": _completions(settings, lm), "measured": measured}
    write_atomically(work / "results.json", (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    solutions = {"bits_per_byte_solutions": bits["humaneval_solutions"]} if "humaneval_solutions" in bits else {}
    return {
        **human.get("humaneval", {}), "bits_per_byte": bits["heldout"]["all"], **solutions, "heldout_bytes": sum(sizes.values()),
        "pass_at_1_of": {name: entry["pass_at"]["1"]["score"] for name, entry in scores.items()},
    }  # fmt: skip


def _problems(settings: EvaluateSettings) -> dict[str, list[Problem]]:
    """By benchmark, groups taken apart."""
    found: dict[str, list[Problem]] = {}
    for chosen in settings.benchmarks:
        for problem in chosen.load():
            found.setdefault(problem.benchmark, []).append(problem)
    if programs.INSTRUCT in found and not settings.chat:
        raise SnowError(f"{programs.INSTRUCT} is for models that follow instructions: set evaluate.chat: true, or name bigcodebench/complete instead")
    for name, problems in found.items():
        lacking = libraries.missing(problems, settings.sandbox) if settings.samples else {}
        if lacking:
            names = ", ".join(sorted({name for some in lacking.values() for name in some}))
            what = f"{len(lacking)} of {len(problems)} problems want libraries that the sandbox's Python lacks ({names})"
            advice = "evaluate.sandbox.environment names a virtual environment that has them (tools/bigcodebench.sh makes one)"
            if len(lacking) == len(problems):
                raise SnowError(f"{name}: {what}; {advice}, or leave the benchmark out")
            say(f"  {name}: {what}; the score is of the others; {advice}")
        found[name] = [problem for problem in problems if problem.task_id not in lacking]
    return {name: problems[: settings.problem_limit] for name, problems in found.items()}


def _set(benchmark: str) -> str:
    """A benchmark's name in bits.jsonl."""
    return "HumanEval" if benchmark == "humaneval" else benchmark


def _scored(settings: EvaluateSettings, lm: LanguageModel, groups: dict[str, list[str]], problems: dict[str, list[Problem]]) -> list[Scored]:
    from megatron_snow.evaluation.likelihood import continuation_rows, heldout_rows

    rows = heldout_rows(lm, groups, settings.overlap, settings.batch_tokens)
    for name, some in problems.items():
        solutions = [(problem.task_id, "Python", programs.prompt(problem), programs.solution(problem)) for problem in some]
        rows = [*rows, *continuation_rows(lm, _set(name), solutions, settings.overlap, settings.batch_tokens)]
    return rows


def _bits_per_byte(rows: list[Scored], benchmarks: list[str]) -> dict[str, Any]:
    from megatron_snow.evaluation.likelihood import by_language, per_byte

    solutions = {name: per_byte([row for row in rows if row["set"] == _set(name)]) for name in benchmarks}
    human = {"humaneval_solutions": solutions["humaneval"]} if "humaneval" in solutions else {}
    return {"heldout": by_language([row for row in rows if row["set"] == "heldout"]), "solutions": solutions, **human}


def _benchmarks(
    settings: EvaluateSettings, seed: int, lm: LanguageModel, problems: dict[str, list[Problem]], solutions: dict[str, float], phase: str, work: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each benchmark's entry, and HumanEval's as the report reads it."""
    from megatron_snow.evaluation import passing
    from megatron_snow.evaluation.writers import local, served

    write = local(lm, settings, seed) if settings.endpoint is None else served(lm, settings, settings.endpoint, seed, phase, work / "answers")
    verdicts = {name: passing.run(name, some, write, settings, work / f"{name.replace('/', '.')}.jsonl") for name, some in problems.items()}
    scores: dict[str, Any] = {}
    for chosen in settings.benchmarks:
        members = chosen.benchmarks()
        for name in members:
            plus = any(problem.plus_inputs for problem in problems[name])
            scores[name] = {**passing.summary(verdicts[name], settings, plus, seed), "bits_per_byte": solutions[name]}
        if members != (chosen.name,):  # task ids are unique within a member only
            pooled = [passing.Verdict(**{**row, "task_id": f"{name} {row['task_id']}"}) for name in members for row in verdicts[name]]
            scores[chosen.name] = {**passing.summary(pooled, settings, False, seed), "members": list(members)}
    return scores, {"humaneval": _human(verdicts["humaneval"])} if "humaneval" in verdicts else {}


def _human(verdicts: list[Verdict]) -> dict[str, Any]:
    passed = sum(verdict["passed"] for verdict in verdicts)
    reasons = Counter(verdict["reason"] for verdict in verdicts)
    problems = len({verdict["task_id"] for verdict in verdicts})
    return {"pass_at_1": passed / len(verdicts), "passed": passed, "problems": problems, "reasons": dict(reasons.most_common())}


def _completions(settings: EvaluateSettings, lm: LanguageModel) -> list[dict[str, str]]:
    from megatron_snow.evaluation.generation import complete

    written = complete(lm, lm.prompts(list(settings.prompts)), settings.prompt_tokens)
    return [{"prompt": prompt, "completion": completion.text} for prompt, completion in zip(settings.prompts, written, strict=True)]
