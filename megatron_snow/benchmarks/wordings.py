"""Sets of problems that nothing here runs, whose wording must not be in a corpus either: APPS, GSM8K, DS-1000.

StarCoder2 (arXiv 2402.19173, section 3.3) drops files with the docstrings of APPS, the questions of GSM8K and the prompts of DS-1000.
Read from a file in the published format, a folder that holds it, or the hub; none of the three is at hand on PyPI.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import reference_fingerprint
from megatron_snow.benchmarks.rows import Row, locate, read_rows, text
from megatron_snow.benchmarks.sources import FOLDER_VARIABLE


@dataclass(frozen=True)
class Wording:
    """How a problem is put."""

    benchmark: str
    task_id: str
    what: str
    text: str


@dataclass(frozen=True)
class _Set:
    stem: str
    hub: str
    split: str
    column: str
    what: str


WORDINGS = {
    "apps": _Set("apps", "codeparrot/apps", "test", "question", "question"),  # Hendrycks et al. 2021, arXiv 2105.09938
    "gsm8k": _Set("gsm8k", "openai/gsm8k", "test", "question", "question"),  # Cobbe et al. 2021, arXiv 2110.14168
    "ds1000": _Set("ds1000", "xlangai/DS-1000", "test", "prompt", "prompt"),  # Lai et al. 2022, arXiv 2211.11501
}


def load_wordings(name: str, source: str = "") -> list[Wording]:
    """The problems of a set, in file order. Raises SnowError where it cannot be read or has another format."""
    chosen = WORDINGS[name]
    where = source_of(name, source)
    found = [
        Wording(name, _identifier(name, row, number), chosen.what, text(row, chosen.column, place))
        for path in locate(where, chosen.stem, chosen.split)
        for number, (place, row) in enumerate(read_rows(path))
    ]
    if not found:
        raise SnowError(f"{where} holds no problem; name a file of {name} as it is published, or the data set {chosen.hub}")
    return found


def source_of(name: str, source: str) -> str:
    """Where a set is read from: ``source``, the folder that $SNOW_BENCHMARKS names, else the hub."""
    return source or os.environ.get(FOLDER_VARIABLE, "") or WORDINGS[name].hub


def wordings_fingerprint(name: str, source: str = "") -> str:
    """Changes when a local file behind the set does; empty for the hub."""
    where = source_of(name, source)
    if Path(where).is_dir():
        return "".join(reference_fingerprint(str(path)) for path in locate(where, WORDINGS[name].stem, ""))
    return reference_fingerprint(where)


def _identifier(name: str, row: Row, number: int) -> str:
    """The published number: ``problem_id`` of APPS and, in its metadata, of DS-1000; GSM8K's are known by their place."""
    metadata = row.get("metadata")
    given = row.get("problem_id", metadata.get("problem_id") if isinstance(metadata, dict) else None)
    return f"{name}/{number if given is None else given}"
