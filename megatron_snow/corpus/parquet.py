"""Rows of parquet files in bounded memory, whatever a file says of itself.

A batch holds so many rows as their mean size and the largest value a dictionary can repeat allow: no more than the ``_ROWS`` largest rows
stand in memory, beside the page they are on, which its writer chose and which is unpacked whole. Texts stay bytes, so that invalid UTF-8
costs its row and not its batch, and a value over the limit is never made a Python object. A group that makes ever more of ever less is a bomb.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.broken import Broken

_ROWS = 32  # of a batch at most (ours: 256 are no faster, 8 take five times as long a row)
_BATCH = 64 * 2**20  # bytes of a batch by the rows' mean (ours)
_RATIO = 250  # bytes out of one byte in, as of archives (``corpus.archives``)
_BOMB_FROM = 2**30  # bytes out below which the ratio does not matter (ours)
_BOMB = "shard is a bomb"
_HEADER = 32  # bytes that hold the first three numbers of a page's header


def column_names(file: Path) -> set[str]:
    """The names of a file's columns. Raises SnowError where it cannot be read."""
    return set(_schema(_open(file), file).names)


def group_sizes(file: Path) -> list[int]:
    """Bytes of each row group, unpacked. Raises SnowError where the file cannot be read."""
    metadata = _open(file).metadata
    return [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]


def parquet_rows(file: Path, group: int, columns: Sequence[str], longest: int) -> Iterator[dict[str, Any] | Broken]:
    """The rows of a row group, in order, of those ``columns`` that are there; text is bytes, a list of texts a list of bytes.

    A row with a value of more than ``longest`` bytes is ``Broken``, and so is, once, the rest of a group that cannot be read or is a bomb.
    A column of structures or maps is passed over: none of The Stack's is.
    """
    parquet = _open(file)
    schema = _schema(parquet, file)
    wanted = [name for name in columns if name in schema.names and _is_plain(schema.field(name).type)]
    metadata = parquet.metadata.row_group(group)
    leaves = [metadata.column(index) for index in range(metadata.num_columns)]
    leaves = [leaf for leaf in leaves if leaf.path_in_schema.split(".")[0] in wanted]
    left, packed = metadata.num_rows, sum(leaf.total_compressed_size for leaf in leaves)
    size = sum(leaf.total_uncompressed_size + 8 * leaf.num_values for leaf in leaves)  # eight bytes: an offset or a number, of a null too
    dictionaries = {leaf.path_in_schema: _dictionary_bytes(file, leaf) for leaf in leaves}
    listed = [leaf.path_in_schema for leaf in leaves if "." in leaf.path_in_schema and leaf.physical_type == "BYTE_ARRAY"]
    if (size > _BOMB_FROM and size > _RATIO * packed) or any(dictionaries[path] > _BATCH for path in listed):
        yield Broken(_BOMB, f"{file}: {size} bytes in {packed}; {left} rows not read")
        return
    rows = max(1, min(_ROWS, _BATCH // max(size // max(left, 1), *dictionaries.values(), 1)))
    made = 0
    try:
        for batch in _open(file, listed).iter_batches(batch_size=rows, row_groups=[group], columns=wanted, use_threads=False):
            made += batch.nbytes
            if made > _BOMB_FROM and made > _RATIO * size:
                yield Broken(_BOMB, f"{file}: {made} bytes and more in {size}; {left} rows not read")
                return
            for values in zip(*(_cells(column, longest) for column in batch.columns), strict=True):
                left -= 1
                yield next((value for value in values if isinstance(value, Broken)), None) or dict(zip(batch.schema.names, values, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        yield Broken("damaged file", f"{file}: {error}; {left} rows not read")


def _open(file: Path, dictionaries: Sequence[str] = ()) -> pyarrow.parquet.ParquetFile:
    """``dictionaries``: leaf columns that stay dictionaries when they are read."""
    try:
        return pyarrow.parquet.ParquetFile(file, read_dictionary=list(dictionaries), buffer_size=2**20)
    except (pyarrow.ArrowException, OSError) as error:
        raise SnowError(f"{file} is not a readable parquet file ({error}); remove or fetch it again") from error


def _schema(parquet: pyarrow.parquet.ParquetFile, file: Path) -> pyarrow.Schema:
    try:
        return parquet.schema_arrow
    except pyarrow.ArrowException as error:
        raise SnowError(f"{file} has columns that cannot be read ({error}); write it anew with types that pyarrow knows") from error


def _dictionary_bytes(file: Path, leaf: pyarrow.parquet.ColumnChunkMetaData) -> int:
    """Bytes of a column's dictionary, unpacked; what the column holds at most, where its header does not say. 0 where there is none."""
    if not leaf.has_dictionary_page or leaf.dictionary_page_offset is None:
        return 0
    with file.open("rb") as raw:
        raw.seek(leaf.dictionary_page_offset)
        return _page_bytes(raw) or leaf.total_uncompressed_size


def _page_bytes(raw: IO[bytes]) -> int | None:
    """``uncompressed_page_size`` of the page header that comes next: the second field of a thrift struct in the compact protocol.

    https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (PageHeader)
    """
    data = iter(raw.read(_HEADER))
    value = 0
    for _ in range(2):  # the type of page, then its size: each a field header 0x15 (next field, i32) and a zigzag number
        if next(data, None) != 0x15:
            return None
        value = shift = 0
        while (byte := next(data, 0)) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        value |= byte << shift
    return value >> 1


def _is_plain(kind: pyarrow.DataType) -> bool:
    return not pyarrow.types.is_nested(kind.value_type if _is_list(kind) else kind)


def _is_list(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind))


def _cells(column: pyarrow.Array, longest: int) -> Iterator[Any]:
    """The values of a column; ``Broken`` in place of one of more than ``longest`` bytes."""
    kind = column.type
    if _is_list(kind):
        yield from (_list(column[row], longest) for row in range(len(column)))
    elif pyarrow.types.is_dictionary(kind):
        values = list(_cells(column.dictionary, longest))
        yield from (None if place is None else values[place] for place in column.indices.to_pylist())
    elif any(is_it(kind) for is_it in (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_binary, pyarrow.types.is_large_binary)):
        large = pyarrow.types.is_large_string(kind) or pyarrow.types.is_large_binary(kind)
        raw = column.cast(pyarrow.large_binary() if large else pyarrow.binary())
        for place, size in enumerate(compute.binary_length(raw).to_pylist()):
            yield Broken("too large", f"a value of {size} bytes") if size is not None and size > longest else raw[place].as_py()
    else:
        yield from column.to_pylist()


def _list(value: pyarrow.ListScalar, longest: int) -> list[Any] | Broken | None:
    """A list's values; ``Broken`` where all of them together are too long (eight bytes each beside their own)."""
    if value.values is None:
        return None
    found: list[Any] = []
    room = longest
    for cell in _cells(value.values, longest):
        room -= 8 + (len(cell) if isinstance(cell, bytes) else 0)
        if isinstance(cell, Broken) or room < 0:
            return Broken("too large", f"a list of {len(value.values)} values, too long together")
        found.append(cell)
    return found
