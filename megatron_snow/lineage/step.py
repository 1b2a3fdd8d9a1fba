"""From a training step to its samples, their documents, and where each of their files came from."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypedDict

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.lineage.places import SYNTHETIC, Artefacts, numbered_rows
from megatron_snow.lineage.records import Record, filters, find_records
from megatron_snow.training.samples import phase_samples


class Piece(TypedDict):
    """A run of one file's tokens in a sample."""

    tier: str
    shard: str
    """Of the tokens."""
    document: int
    """Within the shard."""
    epoch: int
    """Which pass over the tier, from 0."""
    id: str
    first: int
    """First token, from where the file begins in its document."""
    tokens: int


class StepTrace(TypedDict):
    """What a step read."""

    phase: str
    step: int
    """From 1, as in metrics.jsonl."""
    samples: dict[int, list[Piece]]
    """Number of the sample in the phase -> its pieces, in order."""
    files: list[Record]
    """Each file of the step once, in the order of their ids."""
    tokens: dict[str, int]
    """id -> tokens of it in the step."""
    seeds: dict[str, Record]
    """id of a high-quality file -> its record, for those that seeded a synthetic file of the step."""
    filters: dict[str, Any]


def trace_step(artefacts: Artefacts, phase: str, step: int) -> StepTrace:
    """All that step ``step`` (from 1) of a phase reads. Raises SnowError where the phase or the step is not there, or artefacts do not fit."""
    settings = artefacts.train.phases[phase]
    if not 1 <= step <= settings.steps:
        raise SnowError(f"--step {step}: phase {phase} has the steps 1 to {settings.steps}")
    data = phase_samples(phase, settings, artefacts.tokens, artefacts.seeds[phase], artefacts.train.index_cache, artefacts.tokenizer)
    samples: dict[int, list[Piece]] = {}
    wanted: dict[tuple[str, str], set[str]] = {}
    tokens: Counter[str] = Counter()
    for number in track(settings.samples_of(step - 1), "reading samples", unit="samples"):
        samples[number] = []
        for span, files in zip(data.origin(number), data.files(number), strict=True):
            for file in files:
                samples[number].append(
                    Piece(tier=span.tier, shard=span.shard, document=span.document, epoch=span.epoch, id=file.id, first=file.first, tokens=file.tokens)
                )
                wanted.setdefault((span.tier, span.shard), set()).add(file.id)
                tokens[file.id] += file.tokens
    records = find_records(artefacts, wanted)
    return StepTrace(
        phase=phase, step=step, samples=samples, files=[records[key] for key in sorted(records, key=lambda key: (key[1], key[0]))], tokens=dict(tokens),
        seeds=_seeds(artefacts, {record["seed"] for record in records.values() if record["seed"]}), filters=filters(artefacts),
    )  # fmt: skip


def _seeds(artefacts: Artefacts, ids: set[str | None]) -> dict[str, Record]:
    """The records of the high-quality files that seeded synthetic ones."""
    if not ids:
        return {}
    wanted: dict[tuple[str, str], set[str]] = {}
    for _, shard, row in numbered_rows(artefacts, "high_quality", lambda row: not ids.isdisjoint(row["ids"]), [name for name in ids if name]):
        wanted.setdefault(("high_quality", shard), set()).update(name for name in row["ids"] if name in ids)
    return {name: record for (_, name), record in find_records(artefacts, wanted).items()}


def is_synthetic(record: Record) -> bool:
    """Whether a served model wrote the file."""
    return record["tier"] == SYNTHETIC
