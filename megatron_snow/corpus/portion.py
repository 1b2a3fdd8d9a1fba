"""A random share of what the sources hold, as a listing that the corpus arrow takes for its own: for an estimate before the whole is done.

What is drawn is a unit: an installed file, a row of a folder, an archive, a clone. Each is as likely as any other, by the hash of the seed, its
source and its place among that source's units, so that the same sources in another folder give the same share. The rows of a file are counted
first (parquet says how many it has, lines are counted), so that no row is more likely than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.progress import track
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.corpus.folder import read_rows
from megatron_snow.corpus.listing import Item, Listing, RowsItem, make_listing, read_task, task_file
from megatron_snow.corpus.sampling import hash_order
from megatron_snow.corpus.settings import CorpusSettings

FEWEST = 200  # units drawn at least (ours: shares of a tenth are then known to within 0.04)
_WHOLE = ("archive", "blobs")  # items that are a unit each, with many files in them


@dataclass(frozen=True)
class Portion:
    """What was drawn."""

    units: int
    of: int
    """Units there are."""
    whole: frozenset[str]
    """Sources whose unit is a repository; of the others it is a document."""

    @property
    def share(self) -> float:
        """0..1."""
        return self.units / self.of

    def unit(self, document: Document) -> str:
        """The unit a document that was kept belongs to."""
        return f"{document['source']}\0{document['repository']}" if document["source"] in self.whole else document["id"]


def draw(settings: CorpusSettings, seed: int, share: float, folder: Path, stages: Path, fewest: int = FEWEST) -> Portion:
    """List everything into ``folder``, draw, and write the listing of what was drawn below ``stages``, where ``corpus.build`` looks for it.

    ``fewest``: units drawn however small the share. Raises SnowError as ``make_listing``.
    """
    listing = make_listing(settings, seed, folder)
    units = list(track(_units(settings, listing, folder), "counting what there is", unit="units"))
    wanted = min(len(units), max(fewest, round(share * len(units))))
    drawn = _shuffled(seed, units)[:wanted]
    items: list[Item] = []
    rows: dict[tuple[str, int | None], RowsItem] = {}
    for item, row in drawn:
        if item["kind"] != "rows":
            items.append(item)
            continue
        key = (item["location"], item["group"])
        if key not in rows:
            rows[key] = RowsItem(kind="rows", source=item["source"], location=item["location"], group=item["group"], rows=[])
            items.append(rows[key])
        chosen = rows[key]["rows"]
        assert chosen is not None  # made above
        chosen.append(row)
    target = stages / "listing"
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(task_file(target, 0), b"".join(orjson.dumps(item) + b"\n" for item in items))
    write_atomically(target / "listing.json", orjson.dumps(Listing(tasks=1, bytes=0, sources=listing["sources"])))
    return Portion(wanted, len(units), frozenset(item["source"] for item, _ in units if item["kind"] in _WHOLE))


def _shuffled(seed: int, units: list[tuple[Item, int]]) -> list[tuple[Item, int]]:
    """In hash order. A unit is named by its place, as its location is another on another machine."""
    places: Counter[str] = Counter()
    order: list[bytes] = []
    for item, _ in units:
        order.append(hash_order(seed, f"portion/{item['source']}/{places[item['source']]}"))
        places[item["source"]] += 1
    return [units[index] for index in sorted(range(len(units)), key=order.__getitem__)]


def _units(settings: CorpusSettings, listing: Listing, folder: Path) -> Iterator[tuple[Item, int]]:
    """(item, row) of every unit; the row is 0 for items that are one."""
    for task in range(listing["tasks"]):
        for item in read_task(folder, task):
            if item["kind"] != "rows":
                yield item, 0
                continue
            rows = item["rows"] if item["rows"] is not None else range(_count(item, settings.max_file_bytes))
            for row in rows:
                yield item, row


def _count(item: RowsItem, max_bytes: int) -> int:
    path = Path(item["location"])
    if item["group"] is not None:
        import pyarrow.parquet

        return int(pyarrow.parquet.ParquetFile(path).metadata.row_group(item["group"]).num_rows)
    return sum(1 for _ in read_rows(path, None, max_bytes))
