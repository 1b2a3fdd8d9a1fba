"""From repositories to tiers, drops, synthetic descendants, and the steps that read them."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict

import numpy as np

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.progress import track
from megatron_snow.blend.shards import Integers
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import read_dropped
from megatron_snow.corpus.takedown import repository_key
from megatron_snow.lineage.places import SYNTHETIC, Artefacts, mentioning, numbered_rows
from megatron_snow.lineage.records import find_records, read_scores
from megatron_snow.training.samples import phase_samples
from megatron_snow.training.settings import PhaseSettings


class TierPart(TypedDict):
    """What of a tier is of the repositories."""

    documents: int
    """Training documents."""
    tokens: int
    files: list[str]
    """Their ids, in the tier's order."""
    licenses: dict[str, int]
    """Licence -> files."""


class PhaseReads(TypedDict):
    """What a phase reads of the repositories, or of what their files seeded."""

    samples: int
    tokens: int
    """Of them, as often as they are read."""
    steps: int
    """How many steps read some."""
    runs: list[tuple[int, int]]
    """Which, as runs from first to last; from 1."""
    of: int
    """Steps of the phase."""


class RepositoryTrace(TypedDict):
    """Where repositories went."""

    repositories: list[str]
    seen: list[str]
    """Those of them that have a file in a tier or among the drops."""
    tiers: dict[str, TierPart]
    """Of the corpus; ``heldout`` is trained on by no phase."""
    scored: dict[str, float]
    """files scored, files selected, lowest, mean and highest score; empty where none was scored."""
    synthetic: TierPart | None
    """Files a served model wrote with a file of theirs as the seed; None where there is no such tier."""
    dropped: dict[str, int]
    """Reason -> files."""
    dropped_files: list[dict[str, str]]
    """id, reason, of."""
    phases: dict[str, dict[str, PhaseReads]]
    """Phase -> tier -> what it reads."""


def trace_repositories(artefacts: Artefacts, names: set[str]) -> RepositoryTrace:
    """Everything the road did with the files of these repositories, together.

    A name or an address in any letter case: what ``takedown.repository_key`` makes of it counts. Raises SnowError where artefacts are missing
    or do not fit.
    """
    keys = {repository_key(name) for name in names}
    tiers: dict[str, TierPart] = {}
    documents: dict[str, Integers] = {}
    seen: set[str] = set()

    def theirs(row: dict[str, Any]) -> bool:
        if (key := repository_key(row["repository"])) in keys:
            seen.add(key)
            return True
        return False

    for tier in artefacts.tiers():
        if tier != SYNTHETIC:
            tiers[tier], documents[tier] = _part(artefacts, tier, theirs, keys, keys)
    synthetic = None
    if SYNTHETIC in artefacts.tiers():
        seeds = set(tiers["high_quality"]["files"]) if "high_quality" in tiers else set()
        children = _children(artefacts, seeds)
        synthetic, documents[SYNTHETIC] = _part(artefacts, SYNTHETIC, lambda row: not children.isdisjoint(row["ids"]), children, None)
    dropped = list(_dropped(artefacts, keys, seen))
    scores = read_scores(artefacts, tiers["standard"]["files"]) if "standard" in tiers else {}
    return RepositoryTrace(
        repositories=sorted(names), seen=sorted(name for name in names if repository_key(name) in seen),
        tiers={tier: part for tier, part in tiers.items() if part["files"]}, scored=_scored(scores),
        synthetic=synthetic if synthetic and synthetic["files"] else None, dropped=dict(Counter(row["reason"] for row in dropped)), dropped_files=dropped,
        phases={name: _reads(artefacts, name, phase, documents) for name, phase in artefacts.train.phases.items()},
    )  # fmt: skip


def _part(artefacts: Artefacts, tier: str, wanted: Callable[[dict[str, Any]], bool], naming: Iterable[str], keys: set[str] | None) -> tuple[TierPart, Integers]:
    """The part of a tier whose rows are wanted, and the numbers of its training documents."""
    numbers, tokens = [], 0
    files: list[str] = []
    by_shard: dict[tuple[str, str], set[str]] = defaultdict(set)
    for number, shard, row in numbered_rows(artefacts, tier, wanted, naming):
        numbers.append(number)
        tokens += row["ends"][-1] + 1  # and the end-of-text token
        files += row["ids"]
        by_shard[tier, shard].update(row["ids"])
    records = find_records(artefacts, by_shard) if by_shard else {}
    licenses = Counter(record["license"] or "none stated" for record in records.values() if keys is None or repository_key(record["repository"]) in keys)
    return TierPart(documents=len(numbers), tokens=tokens, files=files, licenses=dict(licenses)), np.array(numbers, np.int64)


def _children(artefacts: Artefacts, seeds: set[str]) -> set[str]:
    """The ids of the synthetic files that these files seeded."""
    if not seeds:
        return set()
    rows = track(read_documents(artefacts.tier(SYNTHETIC)), "synthetic files", unit="files")
    return {document["id"] for document in rows if document.get("seed_id") in seeds}


def _dropped(artefacts: Artefacts, keys: set[str], seen: set[str]) -> Iterator[dict[str, str]]:
    """The repositories' rows of the record of drops. An id is ``source/repository/path``; a repository's name may hold slashes."""
    for row in track(read_dropped(artefacts.corpus / DROPPED, mentioning(keys)), "drops of these repositories", unit="files"):
        parts = row["id"].split("/")
        mine = next((key for end in range(2, len(parts)) if (key := repository_key("/".join(parts[1:end]))) in keys), None)
        if mine is not None:
            seen.add(mine)
            yield {"id": row["id"], "reason": row["reason"], "of": row["of"]}


def _scored(scores: dict[str, tuple[float, bool]]) -> dict[str, float]:
    if not scores:
        return {}
    values = [score for score, _ in scores.values()]
    chosen = sum(selected for _, selected in scores.values())
    return {"files": len(values), "selected": chosen, "lowest": min(values), "mean": sum(values) / len(values), "highest": max(values)}


def _reads(artefacts: Artefacts, name: str, phase: PhaseSettings, documents: dict[str, Integers]) -> dict[str, PhaseReads]:
    """Which steps of a phase read the documents."""
    if not any(len(documents.get(tier, ())) for tier in phase.mix):
        return {}
    data = phase_samples(name, phase, artefacts.tokens, artefacts.seeds[name], artefacts.train.index_cache, artefacts.tokenizer)
    firsts = np.array([phase.first_sample(step) for step in range(phase.steps + 1)])
    found = {}
    for tier in phase.mix:
        if not len(documents.get(tier, ())):
            continue
        samples, tokens = data.occurrences(tier, documents[tier])
        steps = np.unique(np.searchsorted(firsts, samples, side="right"))  # from 1
        found[tier] = PhaseReads(samples=len(samples), tokens=int(tokens.sum()), steps=len(steps), runs=_runs(steps), of=phase.steps)
    return found


def _runs(steps: Integers) -> list[tuple[int, int]]:
    """Ascending numbers as runs from first to last."""
    if not len(steps):
        return []
    breaks = np.flatnonzero(np.diff(steps) > 1) + 1
    bounds = [0, *breaks.tolist(), len(steps)]
    return [(int(steps[start]), int(steps[end - 1])) for start, end in itertools.pairwise(bounds)]
