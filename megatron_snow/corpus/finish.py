"""The end of the corpus arrow: duplicates over all documents, the held-out split, the order of the tiers, and writing them.

One process holds the index, some hundred bytes a document; texts are read where they are compared, and by the tasks
that write the shards. What a shard holds is decided here from sizes alone, so that it does not depend on who writes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow
import pyarrow.compute as compute

from megatron_snow.artifacts.documents import SHARD_BYTES
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.corpus.dropped import Dropped
from megatron_snow.corpus.duplicates import Duplicates, find_duplicates
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.sampling import hash_order
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.corpus.shares import REASON as OVER_SHARE
from megatron_snow.corpus.shares import over_share
from megatron_snow.corpus.split import choose_heldout
from megatron_snow.corpus.spool import SpoolReader, gather, write_table
from megatron_snow.signatures.diversity import effective

_ROWS = 8192  # of an index made Python objects at a time (ours)
_LARGEST = 10  # repositories named (ours: what the report shows)
SIDES = ("standard", "heldout")


class Finish:
    """The filtered documents of all tasks, what goes of them, and the plan of the tiers."""

    def __init__(self, settings: CorpusSettings, seed: int, spool: Path, tasks: int, threads: int) -> None:
        self._settings, self._seed = settings, seed
        self.index, bands = gather(spool, tasks, settings.near_duplicates.bands)
        self._places = [self.index[name].to_numpy() for name in ("task", "offset", "length")]
        self._reader = SpoolReader(spool)
        self.duplicates: Duplicates = find_duplicates(self.index, bands, self._texts, settings.near_duplicates, threads)
        over = over_share(self.index, self.duplicates.kept, settings.max_repository_share, seed)
        self._kept, self._over = self.duplicates.kept[~over], self.duplicates.kept[over]

    def __enter__(self) -> Finish:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__(None, None, None)

    def _texts(self, rows: np.ndarray) -> list[bytes]:
        task, offset, length = (column[rows].tolist() for column in self._places)
        return [self._reader.text(*place) for place in zip(task, offset, length, strict=True)]

    def drops(self, funnel: Funnel) -> Iterator[Dropped]:
        """Count the duplicates in ``funnel``, one by one, with the row that names each."""
        for reason, pairs in (("exact duplicate", self.duplicates.exact), ("near duplicate", self.duplicates.near)):
            for start in range(0, len(pairs), _ROWS):
                some = pairs[start : start + _ROWS]
                gone = self.index.select(["id", "language"]).take(some[:, 0]).to_pylist()
                stays = self.index["id"].take(pyarrow.array(some[:, 1])).to_pylist()
                for row, document, keeper in zip(some[:, 0], gone, stays, strict=True):
                    shown = partial(self._near, row, keeper) if reason == "near duplicate" else f"same as {keeper}"
                    funnel.drop(reason, document["language"], document["id"], shown, of=keeper)
                    yield funnel.dropped_rows.pop()
        for start in range(0, len(self._over), _ROWS):
            for document in self.index.select(["id", "language", "repository"]).take(pyarrow.array(self._over[start : start + _ROWS])).to_pylist():
                funnel.drop(OVER_SHARE, document["language"], document["id"], f"of {document['repository']}")
                yield funnel.dropped_rows.pop()

    def _near(self, row: int, keeper: str) -> str:
        return f"near {keeper}\n{self._texts(np.array([row]))[0].decode()}"

    def clusters(self) -> dict[str, Any]:
        """What is told of near-duplicate clusters."""
        keepers, counts = np.unique(self.duplicates.near[:, 1], return_counts=True)
        names = self.index["id"].take(pyarrow.array(keepers)).to_pylist() if len(keepers) <= _ROWS else None
        if names is None:  # only those that can be among the ten largest
            least = np.partition(counts, -10)[-10]
            keepers, counts = keepers[counts >= least], counts[counts >= least]
            names = self.index["id"].take(pyarrow.array(keepers)).to_pylist()
        largest = sorted(zip(counts.tolist(), names, strict=True), key=lambda item: (-item[0], item[1]))[:10]
        return {
            "clusters": len(np.unique(self.duplicates.near[:, 1])),
            "dropped": len(self.duplicates.near),
            "largest": [{"kept": name, "dropped": count} for count, name in largest],
        }

    def tiers(self) -> pyarrow.Table:
        """The documents that stay, with ids made unique, in the order of the tiers; column ``heldout`` tells the sides apart.

        Raises SnowError where one repository is all there is.
        """
        table = self.index.take(pyarrow.array(self._kept))
        table = table.set_column(0, "id", [_unique_ids(table["id"])])
        heldout = choose_heldout(_sizes(table), self._settings.heldout_fraction, self._seed)
        held = compute.is_in(table["repository"], pyarrow.array(sorted(heldout), pyarrow.large_string()))
        random = np.fromiter((int.from_bytes(hash_order(self._seed, name)) for name in _values(table["id"])), dtype=np.uint64, count=len(table))
        table = table.append_column("heldout", held.cast(pyarrow.int8())).append_column("random", pyarrow.array(random))
        keys = [(name, "ascending") for name in ("heldout", "language", "repository", "random", "id")]
        return table.take(compute.sort_indices(table, sort_keys=keys))


def plan_shards(tiers: pyarrow.Table, folder: Path, limit: int = SHARD_BYTES) -> list[str]:
    """Write the rows of each shard of both sides into ``folder``, one file a task; returns the shards' names in task order.

    A shard ends with the document that brings its texts to ``limit`` bytes; each side has one at least.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    held = tiers["heldout"].to_numpy()
    boundary = int(np.searchsorted(held, 1))
    for side, first, last in ((SIDES[0], 0, boundary), (SIDES[1], boundary, len(tiers))):
        ends = np.cumsum(tiers["size"].to_numpy()[first:last])
        start = number = 0
        while start < last - first or number == 0:
            before = ends[start - 1] if start else 0
            end = min(int(np.searchsorted(ends, before + limit, side="left")) + 1, last - first)
            write_table(folder / f"{len(names):05d}.arrow", [tiers.slice(first + start, end - start)], tiers.schema)
            names.append(f"{side}/{number:05d}.jsonl.zst")
            start, number = end, number + 1
    return names


def inventory(tiers: pyarrow.Table, side: str) -> dict[str, Any]:
    """Documents, bytes, repositories and languages of a side; its largest repositories with their bytes, and how many of one size were as spread."""
    table = tiers.filter(compute.equal(tiers["heldout"], SIDES.index(side)))
    repositories = table.group_by("repository").aggregate([("size", "sum")]).sort_by([("size_sum", "descending"), ("repository", "ascending")])
    languages = table.group_by("language").aggregate([("size", "count"), ("size", "sum")]).to_pylist()
    return {
        "documents": len(table),
        "bytes": compute.sum(table["size"]).as_py() or 0,
        "repositories": len(repositories),
        "largest_repositories": [[row["repository"], row["size_sum"]] for row in repositories.slice(0, _LARGEST).to_pylist()],
        "effective_repositories": round(effective(repositories["size_sum"].to_numpy()), 3),
        "languages": {row["language"]: {"files": row["size_count"], "bytes": row["size_sum"]} for row in sorted(languages, key=lambda row: row["language"])},
    }


def licenses(tiers: pyarrow.Table) -> dict[str, int]:
    """Files of each licence."""
    counted = tiers.group_by("license").aggregate([("size", "count")]).to_pylist()
    return {row["license"] or "none stated": row["size_count"] for row in sorted(counted, key=lambda row: row["license"])}


def refuse_nothing(funnel: Funnel) -> NoReturn:
    """Raises SnowError that says why no document is left."""
    reasons = Counter({reason: languages.total() for reason, languages in funnel.drops.items()})
    raise SnowError(f"the corpus is empty: all {funnel.documents_in} documents were dropped ({dict(reasons.most_common(5))}); mend sources, languages or rules")


def _values(column: pyarrow.ChunkedArray) -> Iterator[str]:
    for start in track(range(0, len(column), _ROWS), "ordering", unit="batches"):
        yield from column.slice(start, _ROWS).to_pylist()


def _sizes(table: pyarrow.Table) -> dict[str, Counter[str]]:
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in table.group_by(["repository", "language"]).aggregate([("size", "sum")]).to_pylist():
        sizes[row["repository"]][row["language"]] += row["size_sum"]
    return sizes


def _unique_ids(ids: pyarrow.ChunkedArray) -> pyarrow.Array:
    """The ids in order of preference, a repeated one with ``#2``, ``#3``, ... behind it: rows of a folder may repeat a path (two revisions of a file)."""
    whole = ids.combine_chunks()
    order = compute.sort_indices(pyarrow.table({"id": whole, "place": np.arange(len(whole))}), sort_keys=[("id", "ascending"), ("place", "ascending")])
    ordered = whole.take(order)
    repeats = np.zeros(len(whole), dtype=bool)
    repeats[1:] = compute.equal(ordered.slice(1), ordered.slice(0, max(len(whole) - 1, 0))).to_numpy(zero_copy_only=False)
    if not repeats.any():
        return whole
    values, places, number = whole.to_pylist(), order.to_numpy(), 1
    for position in range(len(values)):
        number = number + 1 if repeats[position] else 1
        if number > 1:
            values[places[position]] = f"{values[places[position]]}#{number}"
    return pyarrow.array(values, pyarrow.large_string())
