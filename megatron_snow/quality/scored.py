"""Files that another annotator scored high, from its ``scores.parquet``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.settings import ScoredPositives

if TYPE_CHECKING:
    import pyarrow as pa


def read_scores(path: Path, columns: tuple[str, ...], what: str) -> pa.Table:
    """The columns of a scores file. Raises SnowError, beginning with ``what``, where it is missing, damaged or lacks one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if missing := [name for name in columns if name not in names]:
            raise SnowError(f"{what}: {path} has no column {missing[0]!r}, it has {', '.join(names)}; name an annotate artefact's scores.parquet")
        return pq.read_table(path, columns=list(columns))
    except FileNotFoundError as error:
        raise SnowError(f"{what}: {path} does not exist; name an annotate artefact's scores.parquet") from error
    except (OSError, pa.ArrowException) as error:
        raise SnowError(f"{what}: {path} is no parquet file of scores ({error}); name an annotate artefact's scores.parquet") from error


def scored_names(source: ScoredPositives, index: int) -> frozenset[str]:
    """Ids with a score of ``least`` or more. Raises SnowError where the file cannot be read."""
    import pyarrow.compute as pc

    table = read_scores(Path(source.path), ("id", "score"), f"annotate.positives[{index}]")
    return frozenset(table.filter(pc.greater_equal(table["score"], source.least))["id"].to_pylist())
