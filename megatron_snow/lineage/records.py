"""What the tiers and the annotator say of a file: looked up by id, reading no more of the corpus than may hold it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import orjson

from megatron_snow.artifacts.documents import Document, shards
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import read_dropped
from megatron_snow.lineage.places import SYNTHETIC, Artefacts, tier_shards_of
from megatron_snow.lineage.search import find_in_shards

_BATCH = 65_536  # rows of scores looked at together (ours: some MB)


class Record(TypedDict):
    """One file of a tier."""

    id: str
    tier: str
    shard: str
    """The file of the tier that holds it."""
    row: int
    """Its line there, from 0."""
    repository: str
    path: str
    language: str
    license: str
    source: str
    score: float | None
    """The annotator's; None where the file was not scored."""
    selected: bool | None
    """Whether the annotator chose it; None where the file was not scored."""
    seed: str | None
    """Synthetic files: the id of the high-quality file that seeded it."""
    stands_for: int
    """Duplicates of it that were dropped."""


def find_records(artefacts: Artefacts, wanted: Mapping[tuple[str, str], set[str]]) -> dict[tuple[str, str], Record]:
    """(tier, id) -> its record; ``wanted``: (tier, token shard) -> the ids of files in it. Raises SnowError where one is not in its tier."""
    places: dict[Path, set[str]] = {}
    tiers: dict[Path, str] = {}
    every = {tier: shards(artefacts.tier(tier)) for tier in {tier for tier, _ in wanted}}
    for (tier, token_shard), ids in sorted(wanted.items()):
        for path in tier_shards_of(artefacts, tier, token_shard, every[tier]):
            places.setdefault(path, set()).update(ids)
            tiers[path] = tier
    found = {(tiers[path], row["id"]): _record(tiers[path], path.name, number, row) for path, rows in find_in_shards(places) for number, row in rows}
    if missing := sorted({(tier, name) for (tier, _), ids in wanted.items() for name in ids} - found.keys()):
        tier, name = missing[0]
        raise SnowError(f"{name} was tokenized with the {tier} tier and is not in {artefacts.tier(tier)} any more: run `snow tokenize` again")
    _add_scores(artefacts, found)
    _add_duplicates(artefacts, found)
    return found


def _record(tier: str, shard: str, number: int, document: Document) -> Record:
    return Record(
        id=document["id"], tier=tier, shard=shard, row=number, repository=document["repository"], path=document["path"], language=document["language"],
        license=document["license"], source=document["source"], score=document.get("score"), selected=True if tier == "high_quality" else None,
        seed=document.get("seed_id"), stands_for=0,
    )  # fmt: skip


def read_scores(artefacts: Artefacts, ids: Iterable[str]) -> dict[str, tuple[float, bool]]:
    """id -> (score, whether it was selected), for those that were scored: none where no annotator ran."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if artefacts.annotate is None:
        return {}
    path = artefacts.annotate / "scores.parquet"
    wanted = pa.array(sorted(set(ids)), pa.string())
    found: dict[str, tuple[float, bool]] = {}
    try:
        for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=["id", "score", "selected"]):
            rows = batch.filter(pc.is_in(batch["id"], value_set=wanted))
            found.update((row["id"], (row["score"], row["selected"])) for row in rows.to_pylist())
    except (OSError, pa.ArrowInvalid) as error:
        raise SnowError(f"{path} cannot be read ({error}); run `snow annotate` again") from error
    return found


def _add_scores(artefacts: Artefacts, found: dict[tuple[str, str], Record]) -> None:
    ids = [name for tier, name in found if tier != SYNTHETIC]
    scores = read_scores(artefacts, ids) if ids else {}
    for (_, name), record in found.items():
        if name in scores:
            record["score"], record["selected"] = scores[name]


def _add_duplicates(artefacts: Artefacts, found: dict[tuple[str, str], Record]) -> None:
    by_id: dict[str, list[Record]] = {}
    for (_, name), record in found.items():
        by_id.setdefault(name, []).append(record)
    wanted = {orjson.dumps(name) for name in by_id}

    def duplicate(line: bytes) -> bool:
        """Whether the row may be of one of them: ``of`` is written last; what does not look so is parsed."""
        end = line.rstrip().removesuffix(b"}")
        return b',"of":' not in end or end[end.rindex(b',"of":') + 6 :] in wanted

    for row in read_dropped(artefacts.corpus / DROPPED, duplicate):
        for record in by_id.get(row["of"], []):
            record["stands_for"] += 1


def filters(artefacts: Artefacts) -> dict[str, Any]:
    """What every file of the corpus went through: the reasons files were dropped for, with how many; the limits are in its manifest."""
    path = artefacts.corpus / "summary.json"
    try:
        summary = orjson.loads(path.read_bytes())
        return {"dropped": {reason: sum(languages.values()) for reason, languages in summary["drops"].items()}, "kept": summary["kept"], "in": summary["in"]}
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise SnowError(f"{path} is missing or damaged; delete {artefacts.corpus} and run `snow corpus` again") from error
