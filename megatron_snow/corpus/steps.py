"""The filtering stage as datatrove steps: read, language, licences, notebooks, rules, decontamination, redaction, spool.

A step that drops a document counts it in the task's funnel. A document on which a step fails is dropped too, with the
error as its reason: one file nobody foresaw must not cost the run (datatrove stops its pool at the first exception).
"""

from __future__ import annotations

import os
import traceback
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.corpus import language
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.decontamination import Detector
from megatron_snow.corpus.dropped import write_dropped
from megatron_snow.corpus.folder import read_rows
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.license_policy import Policy
from megatron_snow.corpus.license_texts import header_license
from megatron_snow.corpus.listing import FileItem, RowsItem, read_task
from megatron_snow.corpus.notebooks import NotebookError, notebook_to_script
from megatron_snow.corpus.redaction import Redactor
from megatron_snow.corpus.repositories import Found, Refused, read_archive, read_clone
from megatron_snow.corpus.rules import broken_rule, measure
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.corpus.shingles import band_keys
from megatron_snow.corpus.signal_table import SUFFIX as SIGNALS
from megatron_snow.corpus.signal_table import SignalTable
from megatron_snow.corpus.spool import SpoolWriter, spool_file, write_bands, write_index
from megatron_snow.corpus.takedown import REASON as TAKEN_DOWN
from megatron_snow.corpus.takedown import repository_key

_BATCH = 256  # documents whose signatures are made in one call (ours: bounds memory to some tens of MB)
_LFS = b"version https://git-lfs.github.com/spec/v1\n"  # begins what stands where Git LFS keeps a file elsewhere
FAILED = "failed in "  # begins the drop reason of a document on which a step raised


class ReadStep(PipelineStep):  # type: ignore[misc] # datatrove ships no types
    """Yields the documents of a task's items; what is no text is dropped here."""

    type = "READER"
    name = "corpus"

    def __init__(self, folder: Path, settings: CorpusSettings, funnel: Funnel, taken_down: frozenset[str] = frozenset()) -> None:
        """``taken_down``: repositories whose files are dropped unread, as ``takedown.repository_key`` has them."""
        super().__init__()
        self.folder, self.settings, self.funnel, self.taken_down = folder, settings, funnel, taken_down
        self.max_bytes = settings.max_file_bytes

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Read the items of task ``rank``."""
        names: language.Names | None = None
        for item in read_task(self.folder, rank):
            match item["kind"]:
                case "file":
                    yield from self._file(item)
                case "rows":
                    yield from self._rows(item)
                case "archive":
                    names = names or language.Names(self.settings.languages, self.settings.excluded_extensions)
                    yield from self._found(item["source"], read_archive(item, names, self.max_bytes))
                case "blobs":
                    yield from self._found(item["source"], read_clone(item))

    def _file(self, item: FileItem) -> Iterator[Document]:
        self.funnel.enter()
        metadata = {"source": item["source"], "repository": item["repository"], "path": item["path"], "license": item["license"], "stars": None}
        identifier = f"{item['source']}/{item['repository']}/{item['path']}"
        if self._taken_down(item["repository"], item["hint"], identifier):
            return
        try:
            size = os.stat(item["location"]).st_size
            content = Path(item["location"]).read_bytes() if size <= self.max_bytes else b""
        except OSError as error:
            self.funnel.drop("unreadable", item["hint"], identifier, str(error))
            return
        if size > self.max_bytes:
            self.funnel.drop("too large", item["hint"], identifier, f"{size} bytes")
            return
        yield from self._document(identifier, content, metadata, item["hint"])

    def _rows(self, item: RowsItem) -> Iterator[Document]:
        wanted = None if item["rows"] is None else set(item["rows"])
        for number, row in enumerate(read_rows(Path(item["location"]), item["group"], self.max_bytes)):
            if wanted is not None and number not in wanted:
                continue
            self.funnel.enter()
            if isinstance(row, Broken):
                self.funnel.drop(row.reason, "", f"{item['source']}/{Path(item['location']).name}:{number}", row.detail)
                continue
            if self._taken_down(row.repository, "", f"{item['source']}/{row.repository}/{row.path}"):
                continue
            metadata = {
                "source": item["source"],
                "repository": row.repository,
                "path": row.path,
                "license": row.license,
                "stars": row.stars,
                "forks": row.forks,
                "updated": row.updated,
            }
            yield from self._document(f"{item['source']}/{row.repository}/{row.path}", row.text.encode(), metadata, "")

    def _found(self, source: str, files: Iterator[Found | Refused | str]) -> Iterator[Document]:
        """What archives and clones hold."""
        for file in files:
            if isinstance(file, str):
                self.funnel.leave_out(source, file)
                continue
            self.funnel.enter()
            identifier = f"{source}/{file.repository}/{file.path}".rstrip("/")
            if self._taken_down(file.repository, file.hint, identifier):
                continue
            if isinstance(file, Refused):
                self.funnel.drop(file.reason, file.hint, identifier, file.detail)
            else:
                metadata = {"source": source, "repository": file.repository, "path": file.path, "license": file.license, "stars": None}
                yield from self._document(identifier, file.content, metadata, file.hint)

    def _taken_down(self, repository: str, hint: str, identifier: str) -> bool:
        """Whether a file's repository is on the list; if so, the file is dropped and counted by name."""
        if not self.taken_down or (key := repository_key(repository)) not in self.taken_down:
            return False
        self.funnel.taken_down[key] += 1
        self.funnel.drop(TAKEN_DOWN, hint, identifier)
        return True

    def _document(self, identifier: str, content: bytes, metadata: Mapping[str, object], hint: str) -> Iterator[Document]:
        content = content.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark says nothing in UTF-8
        try:
            text = content.decode()
            reason = _unusable(content, self.max_bytes)
        except UnicodeDecodeError as error:
            text, reason = str(error), "not UTF-8"
        if reason:
            self.funnel.drop(reason, hint, identifier, text)
        else:
            yield Document(text=text, id=identifier, metadata={**metadata, "language": hint})


def _unusable(content: bytes, max_bytes: int) -> str | None:
    """Why bytes that decode are no source file all the same."""
    if len(content) > max_bytes:
        return "too large"
    if b"\0" in content:
        return "holds NUL bytes"
    if content.startswith(_LFS):
        return "Git LFS pointer"
    return None if content.strip() else "empty"


class JudgeStep(PipelineStep):  # type: ignore[misc]
    """A step that looks at one document at a time, may change it, and names the reason where it is to go."""

    type = "FILTER"

    def __init__(self, settings: CorpusSettings, funnel: Funnel) -> None:
        super().__init__()
        self.settings, self.funnel = settings, funnel

    @abstractmethod
    def judge(self, document: Document) -> str | None:
        """The reason to drop ``document``, None to keep it."""

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Pass on what is kept; count what is dropped and what the step fails on."""
        for document in data:
            try:
                reason, shown = self.judge(document), document.text
            except Exception as error:
                # Without values: loguru's own traceback shows variables, and with them the document's secrets.
                where = "".join(traceback.format_tb(error.__traceback__))
                logger.error(f"{self.funnel.shown(document.id)}: quarantined, {type(error).__name__} at\n{where}")
                reason, shown = f"{FAILED}{self.name}", f"{type(error).__name__}: {error}"
            if reason is None:
                yield document
            else:
                self.funnel.drop(reason, document.metadata["language"], document.id, shown)


class LanguageStep(JudgeStep):
    """Keeps files of the wanted languages that their repository's authors wrote (linguist's vendored and generated rules)."""

    name = "language"

    def judge(self, document: Document) -> str | None:
        """Sets the document's language."""
        path, content = document.metadata["path"], document.text.encode()
        if path.lower().endswith(self.settings.excluded_extensions):
            return "excluded extension"
        document.metadata["language"] = language.detect(path, content)
        if document.metadata["language"] not in self.settings.languages:
            return "other language"
        if self.settings.rules.drop_vendored and language.is_vendored(path):
            return "vendored"
        if language.is_generated(path, content):
            return "generated"
        return "holds another language" if language.holds_another(document.metadata["language"], document.text) else None


class LicenseStep(JudgeStep):
    """Keeps what its licence permits to keep; a licence the file states at its top goes before its repository's."""

    name = "licences"

    def __init__(self, settings: CorpusSettings, funnel: Funnel) -> None:
        super().__init__(settings, funnel)
        self.policy = Policy(settings.licenses)

    def judge(self, document: Document) -> str | None:
        """Sets the document's licence; counts which one was refused."""
        if self.settings.licenses.file_level and (stated := header_license(document.text)):
            document.metadata["license"] = stated
        verdict = self.policy.verdict(document.metadata["license"])
        if verdict == "allowed":
            return None
        self.funnel.refuse(document.metadata["license"])
        return verdict


class NotebookStep(JudgeStep):
    """Makes scripts of notebooks; they stay "Jupyter Notebook", one of the paper's languages."""

    name = "notebooks"

    def judge(self, document: Document) -> str | None:
        """Replaces a notebook's text."""
        if document.metadata["language"] != "Jupyter Notebook":
            return None
        try:
            document.text = notebook_to_script(document.text)
        except NotebookError as error:
            return str(error)
        return None if document.text.strip() else "empty"


class RulesStep(JudgeStep):
    """StarCoder2's filters. What they measured is written beside the task's other results, of what they drop too."""

    name = "rules"

    def __init__(self, settings: CorpusSettings, folder: Path, funnel: Funnel) -> None:
        """``folder``: where the task's ``.signals.parquet`` goes."""
        super().__init__(settings, funnel)
        self.folder = folder
        self.table: SignalTable | None = None

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Judge every document; the columns appear whole once all are judged."""
        with SignalTable(self.folder / f"{rank:05d}{SIGNALS}") as self.table:
            yield from super().run(data, rank, world_size)

    def judge(self, document: Document) -> str | None:
        """The first rule the document breaks."""
        language_, path = document.metadata["language"], document.metadata["path"]
        measured = measure(document.text, language_, self.settings.rules)
        reason = broken_rule(measured, path, language_, self.settings.rules)
        if self.table is not None:
            self.table.add(self.funnel.shown(document.id), language_, reason or "", measured)
        return reason


class DecontaminationStep(JudgeStep):
    """Drops files that hold a benchmark's docstring or solution."""

    name = "decontamination"

    def __init__(self, settings: CorpusSettings, detector: Detector, funnel: Funnel) -> None:
        super().__init__(settings, funnel)
        self.detector = detector

    def judge(self, document: Document) -> str | None:
        """Records what was found, and shows the first of it before the text of the example."""
        found = self.detector.matches(document.text)
        if not found:
            return None
        for match in found:
            self.funnel.match(match.item.name, match.row(self.funnel.shown(document.id)))
        document.text = f"[{found[0].item.name}]\n{document.text}"
        return "contaminated"


class RedactionStep(JudgeStep):
    """Replaces credentials and personal data by placeholders, in the path too; runs last, on what every filter kept."""

    name = "redaction"

    def __init__(self, settings: CorpusSettings, redactor: Redactor, funnel: Funnel) -> None:
        super().__init__(settings, funnel)
        self.redactor = redactor

    def judge(self, document: Document) -> str | None:
        """Replaces the document's text and path; counts what was found."""
        path, text = self.redactor.redact(document.metadata["path"]), self.redactor.redact(document.text)
        if reason := text.reason or path.reason:
            return reason
        if path.found:
            document.id = document.id.replace(document.metadata["path"], path.text)
            document.metadata["path"] = path.text
        document.text = text.text
        self.funnel.redact(document.metadata["language"], path.found + text.found)
        self.funnel.keep(document.id, document.metadata, document.text)
        return None


class SpoolStep(PipelineStep):  # type: ignore[misc]
    """Writes what is kept, its index, its MinHash bands, the names of what is dropped and the task's funnel; the funnel's file is written last."""

    type = "WRITER"
    name = "spool"

    def __init__(self, folder: Path, settings: CorpusSettings, funnel: Funnel) -> None:
        super().__init__()
        self.folder, self.settings, self.funnel = folder, settings, funnel

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Consume everything; yields nothing."""
        rows: list[dict[str, object]] = []
        contents: list[bytes] = []
        bands: list[np.ndarray] = [band_keys([], self.settings.near_duplicates)]
        part = spool_file(self.folder, rank).with_suffix(f".{uuid.uuid4().hex}")  # a task that Slurm took for lost may still be writing
        with part.open("wb") as file:
            writer = SpoolWriter(file)
            for document in data:
                content = document.text.encode()
                offset, length = writer.add(content)
                fields = {name: document.metadata.get(name) for name in ("language", "repository", "path", "license", "source", "stars", "forks", "updated")}
                place = {"size": len(content), "digest": blake2b(content, digest_size=16).digest(), "task": rank, "offset": offset, "length": length}
                rows.append({"id": document.id, **fields, **place})
                contents.append(content)
                if len(contents) == _BATCH:
                    bands.append(band_keys(contents, self.settings.near_duplicates))
                    contents = []
        bands.append(band_keys(contents, self.settings.near_duplicates))
        os.replace(part, spool_file(self.folder, rank))
        write_bands(self.folder / f"{rank:05d}.bands.npy", np.concatenate(bands))
        write_dropped(self.folder / f"{rank:05d}.dropped.jsonl.zst", self.funnel.dropped_rows)
        write_atomically(self.folder / f"{rank:05d}.matches.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in self.funnel.match_rows))
        write_index(self.folder / f"{rank:05d}.index.arrow", rows)
        write_atomically(self.folder / f"{rank:05d}.funnel.json", orjson.dumps(self.funnel.dump()))
        yield from ()
