"""How much there is in a tier that is not like the rest of it: repetition, repositories, topics."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.documents import Document

if TYPE_CHECKING:
    import numpy.typing as npt

REPEATED_THRESHOLD = 0.5  # ours: share of 8-word runs that stood in an earlier file of the sample; see LOG.md, 2026-11-26
LARGEST_THRESHOLD = 0.2  # ours: share of bytes that one repository may have before its habits are the model's
EFFECTIVE_THRESHOLD = 20.0  # ours: repositories of equal size that would be as spread; a language's idioms need more than a few authors
TOPICS_THRESHOLD = 0.1  # ours: Vendi score as a share of the files it is of; see LOG.md, 2026-11-26
_RUN = 8  # words; ours: short enough to be found in edited copies, long enough not to be idiom
_MOST_CHARACTERS = 20_000  # of a file that are looked at (ours: bounds the time for minified giants)
_TOPIC_FILES = 400  # ours: eigenvalues of a matrix that large take a tenth of a second
_BUCKETS = 2**14  # of hashed name parts (ours)
_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")
_SHOWN = 10


def effective(sizes: Iterable[float]) -> float:
    """exp of the entropy of the sizes' shares: how many equal ones would be as spread (Hill's number of order 1, Ecology 54, 1973)."""
    known = [size for size in sizes if size > 0]
    total = sum(known)
    return math.exp(-sum(size / total * math.log(size / total) for size in known)) if known else 0.0


def repeated_runs(files: Sequence[Document]) -> float:
    """Share of the files' different runs of ``_RUN`` words that stand in an earlier file too, 0..1."""
    seen: set[int] = set()  # Python's own hashes: only compared within this process, 64 bits
    again = total = 0
    for document in files:
        words = _WORD.findall(document["text"][:_MOST_CHARACTERS])
        own = {hash(" ".join(words[start : start + _RUN])) for start in range(len(words) - _RUN + 1)}
        again += len(own & seen)
        total += len(own)
        seen |= own
    return again / total if total else 0.0


def hash_of(text: str) -> int:
    """64 bits that are the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")


def vendi_score(vectors: npt.NDArray[Any]) -> float:
    """Effective number of different items among unit vectors [items, width] (Friedman and Dieng, arXiv 2210.02410).

    exp of the entropy of the eigenvalues of their cosines over their number: as many as there are where none is like another, 1 where
    all are alike. From the smaller of the two Gram matrices, which have the same eigenvalues but for zeros.
    """
    import numpy as np

    matrix = vectors.astype(np.float64)
    matrix = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    values = np.linalg.eigvalsh(matrix / len(vectors))
    return effective(values[values > 1e-12].tolist())


def vendi(files: Sequence[Document]) -> float:
    """Effective number of different topics: the Vendi score of the files' tf-idf vectors over the words that names and comments are made of."""
    import numpy as np

    if not files:
        return 0.0
    table = np.zeros((len(files), _BUCKETS), dtype=np.float32)
    for row, document in enumerate(files):
        for word, count in Counter(part.lower() for part in _PART.findall(document["text"][:_MOST_CHARACTERS])).items():
            table[row, hash_of(word) % _BUCKETS] += 1 + math.log(count)
    table *= np.log((1 + len(files)) / (1 + (table > 0).sum(0))) + 1
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return vendi_score(np.divide(table, norms, out=np.zeros_like(table), where=norms > 0))


@dataclass(frozen=True)
class Spread:
    """How a tier's bytes are spread over repositories."""

    repositories: int
    effective: float
    """As spread as so many of one size."""
    largest: list[tuple[str, float]]
    """The largest ones and their shares of the bytes."""

    @classmethod
    def of(cls, by_repository: Mapping[str, int]) -> Spread:
        """Of repositories' bytes."""
        total = sum(by_repository.values()) or 1
        ordered = sorted(by_repository.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
        return cls(len(by_repository), effective(by_repository.values()), [(name, round(size / total, 6)) for name, size in ordered])


def measures(files: Sequence[Document], spread: Spread) -> list[dict[str, Any]]:
    """A row a measure: ``name``, ``value``, ``threshold``, ``alarm``, ``low_is_alarm``, ``says``."""
    topical = files[:_TOPIC_FILES]
    largest = spread.largest[0][1] if spread.largest else 0.0
    topics = vendi(topical) / len(topical) if topical else 0.0
    return [
        _measure("repeated runs", repeated_runs(files), REPEATED_THRESHOLD, False, f"share of {_RUN}-word runs that stood in an earlier file of {len(files)}"),
        _measure("largest repository", largest, LARGEST_THRESHOLD, False, "as a share of its bytes"),
        _measure("effective repositories", spread.effective, EFFECTIVE_THRESHOLD, True, f"of {spread.repositories}: as spread as so many of one size"),
        _measure("topics", topics, TOPICS_THRESHOLD, True, f"effective number of different files (Vendi score), as a share of {len(topical)}"),
    ]


def _measure(name: str, value: float, threshold: float, low_is_alarm: bool, says: str) -> dict[str, Any]:
    alarm = value < threshold if low_is_alarm else value > threshold
    return {"name": name, "value": round(value, 6), "threshold": threshold, "low_is_alarm": low_is_alarm, "alarm": alarm, "says": says}
