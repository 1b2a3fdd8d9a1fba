"""Mutated files, each opened, read and checked; run by test_mutations.py in a process whose memory is limited.

    python mutations.py FOLDER COUNT SEED

Exits with 0 where, for every mutation, nothing but SnowError was raised, the sidecar found it, and ``verify`` without
the sidecar refused exactly what an independent reading of the format finds malformed. Prints what was done.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import resource
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import file_sha256
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.inputs import check_sums, read_rows
from megatron_snow.tokens.inspection import inspect_dataset
from megatron_snow.tokens.writer import IndexedWriter, verify_checksums, write_checksums

MEMORY = 2**30  # bytes of address space a mutated file may make a reader take, on top of what the process has when it starts
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 8, 7: 4, 8: 2}


def well_formed(idx: bytes, tokens: bytes) -> bool:
    """Whether an index describes its tokens, read byte by byte from the format's description."""
    if len(idx) < 34 or idx[:9] != b"MMIDIDX\x00\x00" or struct.unpack_from("<Q", idx, 9)[0] != 1 or idx[17] not in SIZES:
        return False
    size = SIZES[idx[17]]
    sequences, entries = struct.unpack_from("<QQ", idx, 18)
    if entries < 1 or len(idx) - 34 not in (12 * sequences + 8 * entries, 13 * sequences + 8 * entries):
        return False
    lengths = struct.unpack_from(f"<{sequences}i", idx, 34)
    pointers = struct.unpack_from(f"<{sequences}q", idx, 34 + 4 * sequences)
    documents = struct.unpack_from(f"<{entries}q", idx, 34 + 12 * sequences)
    at = 0
    for length, pointer in zip(lengths, pointers, strict=True):
        if length < 0 or pointer != at:
            return False
        at += length * size
    return at == len(tokens) and documents[0] == 0 and documents[-1] == sequences and list(documents) == sorted(documents)


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """The bytes with one thing about them changed; always other bytes."""
    at, size = rng.randrange(len(raw)), rng.choice((1, 2, 4, 8, 9, 100))
    kinds: list[Callable[[], bytes]] = [
        lambda: raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :],
        lambda: raw[:at] + rng.randbytes(size) + raw[at + size :],
        lambda: raw[:at] + bytes(size) + raw[at + size :],
        lambda: raw[:at],
        lambda: raw + rng.randbytes(size),
        lambda: raw[:at] + raw[at + size :],
        lambda: raw[:at] + rng.randbytes(size) + raw[at:],
        lambda: raw[: at - at % 4 + 2] + struct.pack("<q", rng.choice(EXTREMES)) + raw[at - at % 4 + 10 :],
        lambda: raw[:at] + struct.pack("<i", rng.choice(EXTREMES[:5])) + raw[at + 4 :],
        lambda: raw[: at // 2] + raw[at:] + raw[at // 2 : at],
    ]
    changed = rng.choice(kinds)()
    return changed if changed != raw else raw + b"x"


def datasets(folder: Path, rng: random.Random) -> list[Path]:
    """Small datasets of each token type, with documents of none, one and several sequences."""
    made = []
    for name, dtype in (("narrow", "<u2"), ("wide", "<i4")):
        with IndexedWriter(folder / name, np.dtype(dtype)) as out:
            for _ in range(6):
                lengths = [rng.randrange(5) for _ in range(rng.randrange(4))]
                out.add(np.array([rng.randrange(500) for _ in range(sum(lengths))], np.int64), lengths)
            out.finish()
        write_checksums(folder / name)
        made.append(folder / name)
    return made


def inputs(folder: Path) -> list[Path]:
    """The same rows in every kind of file, with checksums."""
    rows = b"".join(json.dumps({"text": f"line {i}\n" * i, "n": i}).encode() + b"\n" for i in range(8))
    import pyarrow
    from pyarrow import parquet

    made = {"a.jsonl": rows, "a.jsonl.gz": gzip.compress(rows), "a.jsonl.zst": zstandard.ZstdCompressor().compress(rows)}
    for name, raw in made.items():
        (folder / name).write_bytes(raw)
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "x" * i} for i in range(9)]), folder / "a.parquet", row_group_size=4)
    paths = [folder / name for name in (*made, "a.parquet")]
    for path in paths:
        path.with_name(path.name + ".sha256").write_text(f"{file_sha256(path)}  {path.name}\n")
    return paths


def main(folder: Path, count: int, seed: int) -> Counter[str]:
    """Mutate, read and check ``count`` files."""
    rng = random.Random(seed)
    prefixes, files = datasets(folder, rng), inputs(folder)
    for path in files:
        list(read_rows(path, ["text"]))  # whatever is loaded on first use is loaded
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    done: Counter[str] = Counter()
    for _ in range(count):
        if rng.random() < 0.75:
            dataset(rng.choice(prefixes), rng, done)
        else:
            rows(rng.choice(files), rng, done)
    return done


def dataset(prefix: Path, rng: random.Random, done: Counter[str]) -> None:
    """Change .idx or .bin, then look."""
    pair = [prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("idx", "bin")]
    whole = [path.read_bytes() for path in pair]
    which = int(rng.random() < 0.25)
    changed = mutate(whole[which], rng)
    pair[which].write_bytes(changed)
    idx, tokens = (changed, whole[1]) if which == 0 else (whole[0], changed)
    with contextlib.suppress(SnowError):
        data = IndexedDataset(prefix)
        for i in range(min(len(data), 50)):
            with contextlib.suppress(SnowError):
                data.doc(i)
        inspect_dataset(prefix, 0, 20, None)
    refused = False
    try:
        IndexedDataset(prefix).verify()
    except SnowError:
        refused = True
    assert refused == (not well_formed(idx, tokens)), (pair[which].name, changed)
    found = False
    try:
        verify_checksums(prefix)
    except SnowError:
        found = True
    assert found, (pair[which].name, changed)
    done[f"{pair[which].suffix} {'malformed' if refused else 'well-formed'}"] += 1
    pair[which].write_bytes(whole[which])


def rows(path: Path, rng: random.Random, done: Counter[str]) -> None:
    """Change an input file, then read it."""
    whole = path.read_bytes()
    path.write_bytes(mutate(whole, rng))
    read = False
    with contextlib.suppress(SnowError):
        for row in read_rows(path, ["text"]):
            assert all(isinstance(text, str) for texts in row.values for text in texts)
        read = True
    found = False
    try:
        check_sums([path])
    except SnowError:
        found = True
    assert found
    done[f"{''.join(path.suffixes)} {'read' if read else 'refused'}"] += 1
    path.write_bytes(whole)


if __name__ == "__main__":
    counts = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(counts))
