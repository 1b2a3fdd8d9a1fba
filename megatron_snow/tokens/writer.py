"""Write indexed datasets in bounded memory, so that a killed run goes on instead of starting over.

Tokens go to ``<prefix>.bin.part``; lengths and document boundaries go to spill files beside it, never into lists: a
billion documents cost disk, not memory. ``commit`` makes everything written so far durable and says how far that is
(``Written``); ``IndexedWriter.resume`` cuts the files back to such a point. ``finish`` writes the index and moves both
files into place, ``.idx`` last: who finds an ``.idx`` finds the whole ``.bin``.

Byte for byte what megatron-core's IndexedDatasetBuilder writes for the same documents.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import file_sha256
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import Settings
from megatron_snow.tokens.indexed import Header, IndexedDataset, bin_path, idx_path

_COPY = 2**24  # bytes moved at a time (ours: large enough that system calls do not show)
LONGEST = 2**31 - 1  # tokens of a sequence: its length is an int32 in the format


class Written(Settings):
    """How far a writer got."""

    tokens: int = 0
    sequences: int = 0
    documents: int = 0


class IndexedWriter:
    """``with IndexedWriter(prefix, dtype) as out: out.add(tokens) ...; out.finish()``.

    Leaving the block without ``finish`` keeps the parts for ``resume``.
    """

    def __init__(self, prefix: Path, dtype: np.dtype[Any], resume: Written | None = None) -> None:
        """Open the parts, empty or cut back to ``resume``. Raises SnowError where there is less on disk than ``resume`` says."""
        self.prefix, self.dtype = prefix, np.dtype(dtype)
        self.written = resume or Written()
        self._limit = int(np.iinfo(self.dtype).max)
        self._bin = _named(prefix, ".bin.part")
        self._lengths = _named(prefix, ".lengths.part")
        self._boundaries = _named(prefix, ".documents.part")
        if resume and not self._bin.exists() and bin_path(prefix).exists():
            os.replace(bin_path(prefix), self._bin)  # killed between the two moves of finish
        sizes = (self.written.tokens * self.dtype.itemsize, self.written.sequences * 4, self.written.documents * 8)
        self._files = [_open_at(path, size) for path, size in zip((self._bin, self._lengths, self._boundaries), sizes, strict=True)]
        self._tokens, self._sequences, self._documents = self.written.tokens, self.written.sequences, self.written.documents

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    @property
    def bin_bytes(self) -> int:
        """Size of ``.bin`` so far."""
        return self._tokens * self.dtype.itemsize

    def add(self, tokens: npt.NDArray[Any], lengths: Sequence[int] | None = None) -> None:
        """Append one document: ``tokens`` [n] integers; ``lengths`` of its sequences where it has not exactly one.

        Raises SnowError for a sequence of more than 2**31 - 1 tokens, ValueError for tokens that do not fit the type.
        """
        lengths = [len(tokens)] if lengths is None else lengths
        if sum(lengths) != len(tokens):
            raise ValueError(f"lengths add up to {sum(lengths)}, there are {len(tokens)} tokens")
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) <= self._limit:
            raise ValueError(f"tokens from {tokens.min()} to {tokens.max()} do not fit {self.dtype}")
        if max(lengths, default=0) > LONGEST:
            raise SnowError(f"a document of {max(lengths)} tokens: the format holds {LONGEST}; split it")
        self._tokens += len(tokens)
        self._sequences += len(lengths)
        self._documents += 1
        self._files[0].write(np.ascontiguousarray(tokens, self.dtype).data)
        self._files[1].write(np.asarray(lengths, "<i4").tobytes())
        self._files[2].write(self._sequences.to_bytes(8, "little"))

    def add_batch(self, tokens: npt.NDArray[Any], lengths: npt.NDArray[np.int64], documents: npt.NDArray[np.int64]) -> None:
        """Append many documents: ``tokens`` of all of them, ``lengths`` of their sequences, ``documents`` how many sequences each has.

        Raises SnowError for a sequence of more than 2**31 - 1 tokens or one that the type cannot hold.
        """
        if len(tokens) and int(tokens.max()) > self._limit:
            raise SnowError(f"token {tokens.max()} does not fit {self.dtype}: the tokenizer says its vocabulary is smaller than it is; give the right size")
        if len(lengths) and int(lengths.max()) > LONGEST:
            raise SnowError(f"a document of {lengths.max()} tokens: the format holds {LONGEST}; split it")
        ends = self._sequences + np.cumsum(documents, dtype="<i8")
        self._tokens += len(tokens)
        self._sequences += len(lengths)
        self._documents += len(documents)
        self._files[0].write(np.ascontiguousarray(tokens, self.dtype).data)
        self._files[1].write(lengths.astype("<i4").data)
        self._files[2].write(ends.data)

    def append(self, data: IndexedDataset) -> None:
        """Append a whole dataset; costs what copying its file costs. Raises SnowError where its token type is another."""
        if data.dtype != self.dtype:
            raise SnowError(
                f"{data.prefix} holds {data.dtype} tokens, {self.prefix} {self.dtype}: they are from different vocabularies and cannot be one dataset"
            )
        with bin_path(data.prefix).open("rb", buffering=0) as source:
            _copy(source, self._files[0], data.bin_bytes)
        for start in range(0, data.header.sequences, _COPY // 4):
            self._files[1].write(data.sequence_lengths[start : start + _COPY // 4].tobytes())
        for start in range(1, len(data) + 1, _COPY // 8):
            self._files[2].write((data.document_indices[start : start + _COPY // 8] + self._sequences).tobytes())
        self._tokens += data.tokens
        self._sequences += data.header.sequences
        self._documents += len(data)

    def commit(self) -> Written:
        """Make everything added so far durable; what comes back can be given to ``resume``."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        self.written = Written(tokens=self._tokens, sequences=self._sequences, documents=self._documents)
        return self.written

    def finish(self, discard: bool = True) -> IndexedDataset:
        """Write the index, move both files into place and open them.

        Without ``discard`` the spill files stay, so that ``resume`` still can; whoever keeps them discards them.
        """
        self.commit()
        index = _named(self.prefix, ".idx.part")
        with index.open("wb") as out:
            out.write(Header(self.dtype, self._sequences, self._documents).pack())
            for chunk in _chunks(self._lengths, "<i4"):
                out.write(chunk.tobytes())
            out.writelines(self._pointers())
            out.write(bytes(8))  # the first document starts at sequence 0
            for chunk in _chunks(self._boundaries, "<i8"):
                out.write(chunk.tobytes())
            out.flush()
            os.fsync(out.fileno())
        idx_path(self.prefix).unlink(missing_ok=True)  # an older dataset's index must not meet the new tokens
        os.replace(self._bin, bin_path(self.prefix))
        os.replace(index, idx_path(self.prefix))
        if discard:
            self.discard()
        return IndexedDataset(self.prefix)

    def _pointers(self) -> Iterable[bytes]:
        at = 0
        for chunk in _chunks(self._lengths, "<i4"):
            sizes = chunk.astype("<i8") * self.dtype.itemsize
            ends = at + np.cumsum(sizes)
            yield (ends - sizes).tobytes()
            at = int(ends[-1])

    def discard(self) -> None:
        """Remove the parts."""
        for path in (self._bin, self._lengths, self._boundaries):
            path.unlink(missing_ok=True)


def _named(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open for writing at ``size``, everything behind it cut off."""
    if size == 0:
        return path.open("wb")
    if not path.exists() or path.stat().st_size < size:
        raise SnowError(f"{path} is gone or shorter than the {size} bytes noted when it was written; delete the unfinished output beside it and run again")
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def _chunks(path: Path, dtype: str) -> Iterable[npt.NDArray[Any]]:
    with path.open("rb") as file:
        while raw := file.read(_COPY):
            yield np.frombuffer(raw, dtype)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    target.flush()
    while size:
        done = _copy_some(source, target, min(size, _COPY))
        if not done:
            raise SnowError(f"{source.name} ended {size} bytes early while it was copied; is something else writing to it?")
        size -= done
    target.seek(0, os.SEEK_END)  # what the kernel copied went past the buffer


def _copy_some(source: BinaryIO, target: BinaryIO, size: int) -> int:
    """Copy at most ``size`` bytes, in the kernel where the file systems can; how many were."""
    try:
        return os.copy_file_range(source.fileno(), target.fileno(), size)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    block = source.read(size)
    target.write(block)
    target.flush()
    return len(block)


def checksum_path(prefix: Path) -> Path:
    """``<prefix>.sha256``, in the format of ``sha256sum --check``."""
    return _named(prefix, ".sha256")


def write_checksums(prefix: Path, tokens: str | None = None) -> None:
    """Write the sidecar with which ``verify_checksums`` (or ``sha256sum --check``) finds any changed byte.

    ``tokens``: the sha256 of ``.bin`` where it is known already.
    """
    digests = (tokens or file_sha256(bin_path(prefix)), file_sha256(idx_path(prefix)))
    lines = [f"{digest}  {path.name}\n" for digest, path in zip(digests, (bin_path(prefix), idx_path(prefix)), strict=True)]
    write_atomically(checksum_path(prefix), "".join(lines).encode())


def verify_checksums(prefix: Path) -> bool:
    """Compare both files with the sidecar; False where there is none. Raises SnowError naming the file that changed."""
    try:
        lines = checksum_path(prefix).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False
    except UnicodeDecodeError as error:
        raise SnowError(f"{checksum_path(prefix)} is damaged (not text); make the dataset again") from error
    noted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for path in (bin_path(prefix), idx_path(prefix)):
        if noted.get(path.name) != file_sha256(path):
            raise SnowError(
                f"{path} does not match its checksum in {checksum_path(prefix).name}: it was changed or damaged after it was written; make it again"
            )
    return True
