"""Token sequences on disk, in the format Megatron-LM trains from: ``<prefix>.bin`` and ``<prefix>.idx``.

``.bin`` is every token, one after another. ``.idx`` (little-endian) is a header of 34 bytes - magic, version 1, code of
the token type, number of sequences, number of documents + 1 - then the sequences' lengths (int32, tokens), where they
start in ``.bin`` (int64, bytes), and the first sequence of each document with the total at the end (int64). A document
is a run of sequences; ours have one each, Megatron's ``--split-sentences`` gives several.

Both files are mapped, never read whole: opening 20 million documents costs microseconds, a document is a view. The
price is that damage inside the arrays shows only when it is touched (checked there) or in ``verify``, which reads all.
Format source: megatron-core 0.16.1, core/datasets/indexed_dataset.py; tests hold both implementations to each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")  # magic, version, type code, sequences, documents + 1
TYPES = {1: "uint8", 2: "int8", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}  # megatron-core's DType
CODES = {np.dtype(name): code for code, name in TYPES.items()}
UINT16_BELOW = 65_500  # vocabulary size from which megatron-core's DType.optimal_dtype takes int32
_CHUNK = 2**20  # entries that verify looks at together (ours: 8 MiB an array)


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """The type Megatron-LM stores tokens of a vocabulary of this size in: uint16 below 65,500, else int32."""
    return np.dtype("<u2") if vocabulary < UINT16_BELOW else np.dtype("<i4")


def bin_path(prefix: Path) -> Path:
    """``<prefix>.bin``; the prefix may hold dots."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """``<prefix>.idx``; the prefix may hold dots."""
    return prefix.with_name(prefix.name + ".idx")


@dataclass(frozen=True)
class Header:
    """What the first 34 bytes of ``.idx`` say."""

    dtype: np.dtype[Any]
    sequences: int
    documents: int

    @property
    def idx_bytes(self) -> int:
        """Size of the whole ``.idx``, without the one byte a sequence that multimodal datasets add."""
        return HEADER.size + self.sequences * 12 + (self.documents + 1) * 8

    def pack(self) -> bytes:
        """The 34 bytes."""
        return HEADER.pack(MAGIC, VERSION, CODES[self.dtype], self.sequences, self.documents + 1)


def read_header(path: Path) -> Header:
    """Read and check the header of an ``.idx`` against the file's size, so that nothing is allocated on its word.

    Raises SnowError where the file is missing, another format, another version, cut short or too long.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = file.read(HEADER.size)
    except OSError as error:
        raise SnowError(f"cannot open the index {path}: {error.strerror}; give the prefix without .bin or .idx, both must exist") from error
    if not raw.startswith(MAGIC[: max(len(raw), 1)]):
        raise SnowError(f"{path} is no Megatron index: it starts with {raw[:9]!r}, not {MAGIC!r}; was it written by another tool?")
    if len(raw) < HEADER.size:
        raise SnowError(f"{path} is cut short: {size} bytes, the header alone has {HEADER.size}; make it again")
    _, version, code, sequences, entries = HEADER.unpack(raw)
    if version != VERSION:
        raise SnowError(f"{path} has version {version}, this reader knows version {VERSION}; make it again with tools/preprocess_data.py")
    if code not in TYPES:
        raise SnowError(f"{path} has token type code {code}, known are {sorted(TYPES)}; the file is damaged: make it again")
    if entries < 1:
        raise SnowError(f"{path} has no document boundaries (0 entries, at least 1); the file is damaged: make it again")
    header = Header(np.dtype(TYPES[code]), sequences, entries - 1)
    if size not in (header.idx_bytes, header.idx_bytes + sequences):
        raise SnowError(
            f"{path} has {size} bytes, its header ({sequences} sequences, {entries - 1} documents) asks for {header.idx_bytes}; "
            "it was cut short or written over: make it again"
        )
    return header


class IndexedDataset:
    """A dataset on disk, mapped: ``len(data)`` documents, ``data.doc(i)`` is the tokens of one, without a copy.

    Opening checks headers and sizes (constant time); ``verify`` checks the rest. Can be pickled: only the prefix travels.
    """

    def __init__(self, prefix: str | Path) -> None:
        """``prefix``: the path without ``.bin`` / ``.idx``. Raises SnowError where the files do not fit together."""
        self.prefix = Path(prefix)
        path = idx_path(self.prefix)
        self.header = read_header(path)
        self.dtype = self.header.dtype
        raw = np.memmap(path, mode="r")
        sequences, offset = self.header.sequences, HEADER.size
        self.sequence_lengths: npt.NDArray[np.int32] = np.frombuffer(raw, "<i4", sequences, offset)
        """Tokens of each sequence."""
        self.sequence_pointers: npt.NDArray[np.int64] = np.frombuffer(raw, "<i8", sequences, offset + 4 * sequences)
        """First byte of each sequence in ``.bin``."""
        self.document_indices: npt.NDArray[np.int64] = np.frombuffer(raw, "<i8", self.header.documents + 1, offset + 12 * sequences)
        """First sequence of each document, then the number of sequences."""
        self.bin_bytes = self._check_bin()

    def _check_bin(self) -> int:
        path = bin_path(self.prefix)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SnowError(f"cannot open the tokens {path}: {error.strerror}; .bin and .idx belong together, copy both") from error
        asked = int(self.sequence_pointers[-1]) + int(self.sequence_lengths[-1]) * self.dtype.itemsize if self.header.sequences else 0
        if size != asked:
            raise SnowError(
                f"{path} has {size} bytes, {idx_path(self.prefix).name} asks for {asked}; the two are not from one run, or one was cut short: make them again"
            )
        return size

    def __reduce__(self) -> tuple[type[IndexedDataset], tuple[Path]]:
        return IndexedDataset, (self.prefix,)

    def __len__(self) -> int:
        return self.header.documents

    @property
    def tokens(self) -> int:
        """Tokens in ``.bin``."""
        return self.bin_bytes // self.dtype.itemsize

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
        """Tokens of each document, [documents]; a view of the file where every document is one sequence. Raises SnowError on a damaged index."""
        if self.header.sequences == self.header.documents and np.array_equal(self.document_indices, np.arange(self.header.documents + 1)):
            return self.sequence_lengths
        if (outside := (self.document_indices < 0) | (self.document_indices > self.header.sequences)).any():
            raise self._damaged(f"document {int(np.argmax(outside))} begins at sequence {self.document_indices[np.argmax(outside)]}")
        starts = np.append(self.sequence_pointers, self.bin_bytes)[self.document_indices]
        return np.diff(starts) // self.dtype.itemsize

    @cached_property
    def _tokens(self) -> npt.NDArray[Any]:
        if self.bin_bytes == 0:  # an empty file cannot be mapped
            return np.empty(0, self.dtype)
        return np.memmap(bin_path(self.prefix), dtype=self.dtype, mode="r")

    def _slice(self, first: int, end: int, what: str) -> npt.NDArray[Any]:
        """The tokens of sequences ``first`` to ``end``."""
        if not 0 <= first <= end <= self.header.sequences:
            raise SnowError(f"{idx_path(self.prefix)}: {what} spans sequences {first} to {end} of {self.header.sequences}; the file is damaged: make it again")
        if first == end:
            return self._tokens[:0]
        start = int(self.sequence_pointers[first])
        stop = int(self.sequence_pointers[end - 1]) + int(self.sequence_lengths[end - 1]) * self.dtype.itemsize
        if not 0 <= start <= stop <= self.bin_bytes or start % self.dtype.itemsize:
            raise SnowError(f"{idx_path(self.prefix)}: {what} lies at bytes {start} to {stop} of {self.bin_bytes}; the file is damaged: make it again")
        return self._tokens[start // self.dtype.itemsize : stop // self.dtype.itemsize]

    def doc(self, i: int) -> npt.NDArray[Any]:
        """The tokens of document ``i``: a read-only view. Raises IndexError outside 0 .. len - 1, SnowError on a damaged index."""
        if not 0 <= i < len(self):
            raise IndexError(f"document {i} of {len(self)}")
        return self._slice(int(self.document_indices[i]), int(self.document_indices[i + 1]), f"document {i}")

    def sequence(self, i: int) -> npt.NDArray[Any]:
        """The tokens of sequence ``i``: a read-only view. Raises as ``doc``."""
        if not 0 <= i < self.header.sequences:
            raise IndexError(f"sequence {i} of {self.header.sequences}")
        return self._slice(i, i + 1, f"sequence {i}")

    def verify(self, vocabulary: int | None = None) -> None:
        """Check every length, pointer and boundary, and with ``vocabulary`` every token; in bounded memory.

        Raises SnowError naming the first thing that does not fit.
        """
        self._verify_sequences()
        self._verify_documents()
        if vocabulary is not None:
            self._verify_tokens(vocabulary)

    def _damaged(self, what: str) -> SnowError:
        return SnowError(f"{idx_path(self.prefix)}: {what}; the dataset is damaged: make it again")

    def _verify_sequences(self) -> None:
        at = 0
        for start in range(0, self.header.sequences, _CHUNK):
            lengths = self.sequence_lengths[start : start + _CHUNK].astype(np.int64)
            if (lengths < 0).any():
                raise self._damaged(f"sequence {start + int(np.argmax(lengths < 0))} has a negative length")
            ends = at + np.cumsum(lengths) * self.dtype.itemsize
            wrong = self.sequence_pointers[start : start + _CHUNK] != ends - lengths * self.dtype.itemsize
            if wrong.any():
                raise self._damaged(f"sequence {start + int(np.argmax(wrong))} does not start where the one before it ends")
            at = int(ends[-1])
        if at != self.bin_bytes:
            raise self._damaged(f"the lengths add up to {at} bytes, {bin_path(self.prefix).name} has {self.bin_bytes}")

    def _verify_documents(self) -> None:
        if self.document_indices[0] != 0 or self.document_indices[-1] != self.header.sequences:
            raise self._damaged(f"documents span sequences {self.document_indices[0]} to {self.document_indices[-1]}, there are 0 to {self.header.sequences}")
        for start in range(0, self.header.documents, _CHUNK):
            some = self.document_indices[start : start + _CHUNK + 1]
            falls = some[1:] < some[:-1]  # a difference could overflow
            if falls.any():
                raise self._damaged(f"document {start + int(np.argmax(falls))} ends before it begins")

    def _verify_tokens(self, vocabulary: int) -> None:
        for start in range(0, self.tokens, _CHUNK):
            tokens = self._tokens[start : start + _CHUNK]
            wrong = (tokens < 0) | (tokens >= vocabulary)
            if wrong.any():
                at = start + int(np.argmax(wrong))
                raise SnowError(
                    f"{bin_path(self.prefix)}: token {at} is {self._tokens[at]}, the vocabulary has {vocabulary}; another tokenizer wrote it, or it is damaged"
                )
