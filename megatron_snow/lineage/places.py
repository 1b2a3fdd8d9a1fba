"""The artefacts of a road that lineage reads, and which training documents a tier's tokens are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.blend.documents import parse_row, row_lines
from megatron_snow.tokens.grouping import Position
from megatron_snow.tokens.settings import TokenizeSettings
from megatron_snow.tokens.shards import Shard
from megatron_snow.training.settings import TrainSettings

SYNTHETIC = "synthetic"
_NEEDLES = 32  # ours: as many looks through a row cost what parsing it does


@dataclass(frozen=True)
class Artefacts:
    """A road's folders and what the recipe says about the order of its samples."""

    corpus: Path
    annotate: Path | None
    """None where no annotator scored this corpus, which a road needs only for the tiers that it trains on."""
    synthesize: Path
    tokens: Path
    tokenizer: Path
    tokenize: TokenizeSettings
    train: TrainSettings
    seeds: dict[str, int]
    """Phase -> the seed of the order of its samples."""

    def tier(self, name: str) -> Path:
        """The documents of a tier."""
        parents = {"standard": self.corpus, "heldout": self.corpus, "high_quality": self.annotate, SYNTHETIC: self.synthesize}
        parent = parents[name]
        assert parent is not None  # tokens of the tier are there, so what made it is
        return parent / name

    def token_shards(self, tier: str) -> list[Path]:
        """The tier's token shards in order, without their endings."""
        return [path.with_suffix("") for path in sorted((self.tokens / tier).glob("*.idx"))]

    def tiers(self) -> list[str]:
        """The tiers that were tokenized."""
        return sorted(path.parent.name for path in self.tokens.glob("*/00000.idx"))


def numbered_rows(
    artefacts: Artefacts, tier: str, wanted: Callable[[dict[str, Any]], bool], naming: Iterable[str]
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(document through all the tier's shards, shard, row) of the training documents that are wanted; rows as the tokenize arrow writes them.

    A row that is wanted holds one of the strings ``naming`` at least: what holds none is not parsed.
    """
    mentions = mentioning(naming)
    number = 0
    for prefix in track(artefacts.token_shards(tier), f"documents of {tier}", unit="shards"):
        for line in row_lines(prefix):
            if mentions(line) and wanted(row := parse_row(prefix, line)):
                yield number, prefix.name, row
            number += 1


def mentioning(names: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a row's JSON holds one of the strings as such or within a longer one, in any letter case; every row may, where it would take long to tell."""
    needles = [orjson.dumps(name)[1:-1].lower() for name in names]
    if len(needles) > _NEEDLES:
        return bool

    def holds(line: bytes) -> bool:
        small = line.lower()
        return any(needle in small for needle in needles)

    return holds


def tier_shards_of(artefacts: Artefacts, tier: str, token_shard: str, every: Sequence[Path]) -> Sequence[Path]:
    """The shards of documents that a token shard was made of, of ``every`` one of the tier: all, where it was gathered by repository first."""
    if artefacts.tokenize.of(tier).grouping == "repository":
        return every
    number = int(token_shard)
    start = Position() if number == 0 else _next(artefacts.tokens / tier, number - 1)
    end = _next(artefacts.tokens / tier, number)
    first = len(every) if start is None else start.shard
    return every[first : None if end is None else end.shard + (end.row > 0)]


def _next(folder: Path, number: int) -> Position | None:
    path = folder / f"{number:05d}.json"
    try:
        return Shard.model_validate_json(path.read_bytes()).next
    except (OSError, ValidationError) as error:
        raise SnowError(f"{path} is missing or damaged: which documents its shard holds is not known; run `snow tokenize` again") from error
