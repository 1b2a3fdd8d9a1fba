"""Rows of a published benchmark file: JSON lines (plain, gzip, zstd), a JSON array, or Parquet; from this machine or the Hugging Face hub."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(where, row) of each row; ``where`` names file and line for an error message. Raises SnowError where the file is unreadable or not of a known kind."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    if not path.name.endswith(SUFFIXES):
        raise SnowError(f"{path}: not a kind of file known here; a benchmark is read from {', '.join(SUFFIXES)}")
    try:
        text = _bytes(path).decode()
    except Exception as error:
        from zstandard import ZstdError

        if not isinstance(error, OSError | EOFError | UnicodeDecodeError | ZstdError):
            raise
        raise SnowError(f"cannot read the benchmark file {path} ({error}); name a whole {' / '.join(SUFFIXES)} file, or fetch it again") from error
    if path.suffix == ".json":
        rows = _parsed(text, str(path))
        if not isinstance(rows, list):
            raise SnowError(f"{path}: not an array of problems; give the published file, or one problem a line in a .jsonl")
        yield from ((f"{path}, row {number}", _object(row, f"{path}, row {number}")) for number, row in enumerate(rows, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a JSON string may hold U+2028
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _object(_parsed(line, where), where)


def _bytes(path: Path) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            return file.read()
    if path.suffix == ".zst":
        import zstandard

        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as file:
            return file.read()
    return path.read_bytes()


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SnowError(f"{where}: not JSON ({error}); fetch the file again") from error


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise SnowError(f"{where}: not an object with columns but {str(row)[:60]!r}; a benchmark file has one problem a row")
    return row


def text(row: Row, column: str, where: str) -> str:
    """The text in a column. Raises SnowError where there is none."""
    if not isinstance(value := row.get(column), str):
        raise SnowError(f"{where}: no text in {column} (the row has {', '.join(sorted(row)) or 'no column'}); is this the benchmark's own file?")
    return value


def arguments(written: str, where: str) -> list[Any]:
    """A list written as Python. Raises SnowError where it is none."""
    try:
        found = ast.literal_eval(written)
    except (ValueError, SyntaxError) as error:
        raise SnowError(f"{where}: {written[:60]!r} is not a list ({error}); fetch the file again") from error
    return list(found)


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise SnowError(f"cannot read the benchmark file {path} ({error}); is it a whole Parquet file? Fetch it again") from error
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))


def locate(source: str, stem: str, split: str) -> list[Path]:
    """The files that ``source`` names: a file, the files in a folder whose names begin with ``stem``, or a data set of the hub (its ``split``).

    Raises SnowError where there is none.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().startswith(stem.lower()) and file.name.endswith(SUFFIXES))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise SnowError(f"{source} should hold one file {stem}*.jsonl (or .gz, .zst, .json, .parquet), but has {names}; name the file itself")
        return found
    if path.exists():
        return [path]
    if path.suffix or not _HUB_NAME.fullmatch(source):
        raise SnowError(f"there is no benchmark file or folder {source}; name a file that exists, a folder with {stem}*.jsonl, or a data set of the hub")
    return _from_hub(source, split)


def _from_hub(name: str, split: str) -> list[Path]:
    """The data files of a data set, in the hub's own cache. Data files only: no code of the data set is run."""
    advice = f"connect to the hub, set HF_TOKEN where the data set is gated, or name a local file instead of {name}"
    try:
        from huggingface_hub import hf_hub_download, list_repo_files
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the transport it uses: httpx or httpx2
    except ImportError as error:
        raise SnowError(
            f"the data set {name} is on the Hugging Face hub, and the package huggingface_hub is not installed; install it or name a file"
        ) from error
    try:
        files = [file for file in list_repo_files(name, repo_type="dataset") if file.endswith(SUFFIXES)]
        chosen = [file for file in files if split in Path(file).name] or [file for file in files if split in file] or (files if len(files) == 1 else [])
        if not chosen:
            raise SnowError(f"the data set {name} has no data file of the split {split!r} (it has {', '.join(files) or 'none'}); name a local file instead")
        return [Path(hf_hub_download(name, file, repo_type="dataset")) for file in sorted(chosen)]
    except (HTTPError, OSError, ValueError) as error:  # offline mode and a missing cache entry are OSErrors, a bad name is a ValueError
        raise SnowError(f"cannot fetch the data set {name} from the hub ({str(error).splitlines()[0]}); {advice}") from error
