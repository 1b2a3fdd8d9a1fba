"""Random files that the annotator was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import track
from megatron_snow.quality.draw import Draw
from megatron_snow.quality.scored import read_scores


@dataclass(frozen=True)
class Unseen:
    """Files in the order of the draw."""

    documents: list[Document]
    new_repositories: int
    """Of these from repositories that no training file is from; the others are unlabelled files of known repositories."""


def held_out(corpus: Path, language: str, count: int, seed: int) -> list[Document]:
    """Up to ``count`` files of the corpus's held-out tier, in the order of the draw: no annotator learns from those repositories, whatever its settings."""
    tier, draw = corpus / "heldout", Draw(count, seed, f"unseen {language}")
    for document in track(read_documents(tier), "looking for unseen files", unit="files"):
        if document["language"] == language:
            draw.offer(document["id"])
    names = dict.fromkeys(draw.names())
    found = {document["id"]: document for document in read_documents(tier) if document["id"] in names}
    return [found[name] for name in names]


class Drawing:
    """Draws from the held-out and the standard tier; repositories of the training set come in only where the others do not suffice."""

    def __init__(self, artefact: Path, corpus: Path, seed: int) -> None:
        table = read_scores(artefact / "labelled.parquet", ("id", "repository", "side"), "the annotator's labelled files")
        rows = [row for row in table.to_pylist() if row["side"] != "pool"]
        self._labelled = {row["id"] for row in rows}
        self._known = {row["repository"] for row in rows if row["side"] == "training"}
        self._tiers = [tier for tier in (corpus / "heldout", corpus / "standard") if any(tier.glob("*.jsonl.zst"))]
        self._seed = seed

    @property
    def tiers(self) -> list[Path]:
        """The corpus's tiers, the held-out one first."""
        return self._tiers

    def draw(self, count: int, languages: Iterable[str | None], least: int) -> dict[str | None, Unseen]:
        """For each language (None: any) up to ``count`` files. Raises SnowError where there are fewer than ``least``."""
        wanted = list(languages)
        draws = {(language, new): Draw(count, self._seed, f"unseen {language}") for language in wanted for new in (True, False)}
        for document in self._documents():
            if document["id"] in self._labelled:
                continue
            new = document["repository"] not in self._known
            for language in {None, document["language"]} & set(wanted):
                draws[language, new].offer(document["id"])
        names = {}
        for language in wanted:
            fresh = draws[language, True].names()
            names[language] = (fresh + draws[language, False].names())[:count], min(len(fresh), count)
            if len(names[language][0]) < least:
                raise SnowError(
                    f"only {len(names[language][0])} files{' of ' + language if language else ''} are in the corpus beside the labelled ones, {least} are "
                    "needed at least; give a larger corpus or label fewer"
                )
        every = {name for some, _ in names.values() for name in some}
        documents = {document["id"]: document for document in self._documents() if document["id"] in every}
        return {language: Unseen([documents[name] for name in some], new) for language, (some, new) in names.items()}

    def _documents(self) -> Iterable[Document]:
        for tier in self._tiers:
            yield from track(read_documents(tier), f"looking for unseen files ({tier.name})", unit="files")
