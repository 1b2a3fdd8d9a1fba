"""The corpus arrow: raw code -> standard tier and held-out set.

    list and sample -> [datatrove, parallel] read, language, licences, notebooks, rules, decontaminate, redact, sign
                    -> exact and near-duplicates -> held-out split by repository -> sort -> [parallel] write

Filters come first because they are cheap and parallel; duplicates are removed over the whole corpus before the split, so
that no known near-duplicate straddles it; and the split comes before any tier, so that nothing held out can reach an
annotator, a seed or a model. Only an index of the documents is held in memory, some hundred bytes each.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.archives import archives_fingerprint
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import joined, sorted_lines, write_dropped
from megatron_snow.corpus.folder import folder_fingerprint
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.git import git_fingerprint
from megatron_snow.corpus.installed import distributions_fingerprint, stdlib_fingerprint
from megatron_snow.corpus.language import check_languages
from megatron_snow.corpus.license_policy import check_licenses
from megatron_snow.corpus.listing import Listing, make_listing
from megatron_snow.corpus.samples import NAME as SAMPLES
from megatron_snow.corpus.settings import ArchivesSource, CorpusSettings, DistributionsSource, GitSource, StdlibSource
from megatron_snow.corpus.takedown import read_take_down

if TYPE_CHECKING:  # numpy and datatrove load with the run: this module is imported by every command
    from megatron_snow.corpus.decontamination import Detector

_SUMMARY = "summary.json"
CONTAMINATED = "contaminated.jsonl"


def source_fingerprint(settings: CorpusSettings) -> str:
    """Changes when what the sources hold changes, told from names, versions, sizes and times (no file is read).

    Raises SnowError where a source is missing.
    """
    marks = {}
    for source in settings.sources:
        if isinstance(source, StdlibSource):
            marks[source.name] = stdlib_fingerprint(source)
        elif isinstance(source, DistributionsSource):
            marks[source.name] = distributions_fingerprint(source)
        elif isinstance(source, ArchivesSource):
            marks[source.name] = archives_fingerprint(source)
        elif isinstance(source, GitSource):
            marks[source.name] = git_fingerprint(source)
        else:
            marks[source.name] = folder_fingerprint(source)
    return digest(marks)


def build(settings: CorpusSettings, seed: int, work: Path) -> dict[str, Any]:
    """Build the corpus below ``work``; goes on where a killed run with the same settings stopped. Returns counts.

    Writes ``standard/*.jsonl.zst`` and ``heldout/*.jsonl.zst`` (rows of ``artifacts.documents``, sorted by language and
    repository, files of a repository in seeded random order), ``dropped.jsonl.zst`` (every drop by name, ``corpus.dropped``),
    ``contaminated.jsonl`` (every benchmark item that was found: document, benchmark, problem, what, how, share),
    ``samples.jsonl`` (of what was dropped and kept, ``corpus.samples``),
    ``signals.parquet`` (what the rules measured of every file they saw, ``corpus.signal_table``) and
    ``summary.json``: ``in``, ``kept``, ``drops`` (reason -> language -> count), ``examples`` (reason -> id and snippet),
    ``standard`` and ``heldout`` (documents, bytes, ``repositories``, ``largest_repositories``, ``effective_repositories``, ``languages`` ->
    files and bytes), ``licenses`` (SPDX -> files), ``sources`` (what was left out before reading), ``decontamination`` (items sought, in all
    and of which ``benchmarks``, ignored, found), ``near_duplicates`` (clusters, largest), ``redactions`` (placeholder -> language -> how many),
    ``redacted_kinds`` (what was found -> how many), ``refused_licenses`` (SPDX -> files dropped); with a take-down list ``taken_down``:
    ``files`` (name -> files dropped) and ``no file`` (names that matched none).

    Raises SnowError on a missing or empty source, an unknown language, and where nothing is left to write.
    """
    from megatron_snow.corpus.decontamination import Detector
    from megatron_snow.corpus.signal_table import NAME as TABLE
    from megatron_snow.corpus.signal_table import SUFFIX as SIGNALS
    from megatron_snow.corpus.signal_table import join_tables

    summary_file = work / _SUMMARY
    stages = work / "stages"
    if not summary_file.exists():
        check_languages(settings.languages)
        check_licenses(settings.licenses)
        listed = read_take_down(settings.take_down)  # a list that cannot be read is said before hours of listing
        detector = Detector.of(settings.decontamination)
        listing = make_listing(settings, seed, stages / "listing")
        funnel = _filter(settings, detector, listed, listing, stages)
        summary = _finish(settings, seed, work, listing, funnel)
        funnel.samples.write(work / SAMPLES)
        join_tables([stages / "spool" / f"{task:05d}{SIGNALS}" for task in range(listing["tasks"])], work / TABLE)
        summary["decontamination"] |= {
            "sought": len(detector.items),
            "benchmarks": dict(Counter(item.benchmark for item in detector.items)),
            "ignored": [item.name for item in detector.ignored],
        }
        if listed:
            summary["taken_down"] = {"files": dict(funnel.taken_down), "no file": sorted(listed - funnel.taken_down.keys())}
        write_atomically(summary_file, orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    shutil.rmtree(stages, ignore_errors=True)
    return _counts(orjson.loads(summary_file.read_bytes()))


def _filter(settings: CorpusSettings, detector: Detector, taken_down: frozenset[str], listing: Listing, stages: Path) -> Funnel:
    """The parallel stage; returns the funnel of all tasks."""
    from megatron_snow.corpus.engine import run_steps
    from megatron_snow.corpus.redaction import Redactor
    from megatron_snow.corpus.secrets import scanner
    from megatron_snow.corpus.steps import FAILED, DecontaminationStep, LanguageStep, LicenseStep, NotebookStep, ReadStep, RedactionStep, RulesStep, SpoolStep

    spool = stages / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    scanner()  # compiles its rules for all workers
    redactor = Redactor(settings.redaction)
    shared = Funnel(redactor.shown, settings.languages)
    steps = [
        ReadStep(stages / "listing", settings, shared, taken_down),
        LanguageStep(settings, shared),
        LicenseStep(settings, shared),
        NotebookStep(settings, shared),
        RulesStep(settings, spool, shared),
        DecontaminationStep(settings, detector, shared),
        RedactionStep(settings, redactor, shared),
        SpoolStep(spool, settings, shared),
    ]
    run_steps(steps, listing["tasks"], settings.workers, stages / "filter-logs", "filtering", settings.executor)
    funnel = Funnel(languages=settings.languages)
    for task in range(listing["tasks"]):
        funnel.add(orjson.loads((spool / f"{task:05d}.funnel.json").read_bytes()))
    if unmatched := sorted(taken_down - funnel.taken_down.keys()):
        shown = ", ".join(unmatched[:10]) + (" ..." if len(unmatched) > 10 else "")
        say(f"  warning: {len(unmatched)} of the {len(taken_down)} repositories to take down match no file that was read: {shown}")
    for reason, languages in funnel.drops.items():
        if reason.startswith(FAILED):
            say(f"  warning: {languages.total()} documents dropped because a step {reason}; summary.json shows examples. Please report this.")
    return funnel


def _finish(settings: CorpusSettings, seed: int, work: Path, listing: Listing, funnel: Funnel) -> dict[str, Any]:
    """Duplicates, split, order and writing; returns the summary."""
    from megatron_snow.corpus.engine import cores, run_steps
    from megatron_snow.corpus.finish import SIDES, Finish, inventory, licenses, plan_shards, refuse_nothing
    from megatron_snow.corpus.writing import WriteStep

    stages = work / "stages"
    spool, plan = stages / "spool", stages / "plan"
    with Finish(settings, seed, spool, listing["tasks"], settings.workers or cores()) as finish:
        parts = [spool / f"{task:05d}.dropped.jsonl.zst" for task in range(listing["tasks"])]
        sorted_lines(work / CONTAMINATED, [spool / f"{task:05d}.matches.jsonl" for task in range(listing["tasks"])])
        write_dropped(work / DROPPED, joined(parts, finish.drops(funnel)))
        if not len(finish.duplicates.kept):
            refuse_nothing(funnel)
        tiers = finish.tiers()
        names = plan_shards(tiers, plan)
        run_steps([WriteStep(plan, spool, work, names)], len(names), settings.workers, stages / "write-logs", "writing tiers", settings.executor)
        for source, counts in funnel.left_out.items():
            listing["sources"][source] |= counts
        return (
            funnel.summary()
            | {side: inventory(tiers, side) for side in SIDES}
            | {"licenses": licenses(tiers), "sources": listing["sources"], "near_duplicates": finish.clusters()}
            | {"decontamination": {"found": dict(funnel.matches)}}
        )


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    standard, heldout = summary["standard"], summary["heldout"]
    return {
        "documents_in": summary["in"],
        "documents": standard["documents"],
        "bytes": standard["bytes"],
        "repositories": standard["repositories"],
        "languages": len(standard["languages"]),
        "heldout_documents": heldout["documents"],
        "heldout_bytes": heldout["bytes"],
        "drops": {reason: sum(languages.values()) for reason, languages in summary["drops"].items()},
    }
