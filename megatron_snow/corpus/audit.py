"""Contamination audit: which benchmark problems occur in a corpus, a tier, a synthetic set or a tokenized dataset, with the documents.

Read are folders and files of rows (.jsonl, .jsonl.gz, .jsonl.zst, .parquet; the text in ``text`` or ``content``) and Megatron's
.bin/.idx, decoded with the tokenizer that made them. What counts as an occurrence is decontamination's (``decontamination``).
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.orphans import end_with_parent
from megatron_snow.artifacts.progress import Progress
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.decontamination import Detector
from megatron_snow.corpus.folder import COLUMNS, SUFFIXES, raw_rows, row_groups

_DOCUMENTS = 20_000  # of a .bin/.idx read by one process at a time (ours)
_LONGEST = 2**30  # bytes of a row (ours: far above any document)

Part = tuple[str, str, int | None, int]
"""(kind, file or prefix, row group or first document, documents)."""


def parts(target: Path) -> list[Part]:
    """What there is to read below a folder, or of a file or .bin/.idx prefix. Raises SnowError where there is nothing."""
    prefix = target.with_suffix("") if target.suffix in (".bin", ".idx") else target
    if not target.is_dir() and Path(f"{prefix}.idx").exists():
        return list(_dataset(prefix))
    if not target.exists():
        raise SnowError(f"there is no {target}: name a folder, a {', '.join(SUFFIXES)} file, or a .bin/.idx prefix")
    files = [target] if target.is_file() else sorted(path for path in target.rglob("*") if path.is_file())
    found: list[Part] = []
    for path in files:
        if path.name.endswith(SUFFIXES):
            found += [("rows", str(path), group, 0) for group, _ in row_groups(path)]
        elif path.suffix == ".idx" and path.with_suffix(".bin").exists():
            found += _dataset(path.with_suffix(""))
    if not found:
        raise SnowError(f"{target} holds no {', '.join(SUFFIXES)} file and no .bin/.idx: nothing to audit")
    return found


def _dataset(prefix: Path) -> Iterator[Part]:
    from megatron_snow.tokens.indexed import IndexedDataset

    count = len(IndexedDataset(prefix))
    yield from (("tokens", str(prefix), first, min(_DOCUMENTS, count - first)) for first in range(0, count, _DOCUMENTS))


def audit(target: Path, detector: Detector, tokenizer: Path | None = None, workers: int = 1) -> dict[str, Any]:
    """Look for the detector's items in everything below ``target``.

    Returns ``documents``, ``bytes``, ``unreadable`` (rows without text), ``benchmarks`` (name -> problems sought, found, found exactly, documents)
    and ``matches`` (document, benchmark, problem, what, how, share), in the order of the files. Raises SnowError where nothing can
    be read, a row is damaged, or tokens are given without their tokenizer.
    """
    todo = parts(target)
    if any(kind == "tokens" for kind, *_ in todo) and tokenizer is None:
        raise SnowError(f"{target} holds tokens: give the tokenizer that made them (--tokenizer FOLDER, a road's 2-tokenizer)")
    results: dict[int, dict[str, Any]] = {}
    one = partial(_audit_part, detector=detector, tokenizer=tokenizer, root=target if target.is_dir() else target.parent)
    with Progress("auditing", total=len(todo), unit="parts") as bar:
        if workers > 1 and len(todo) > 1:
            context = multiprocessing.get_context("forkserver")
            with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=end_with_parent) as pool:
                futures = {pool.submit(one, part): number for number, part in enumerate(todo)}
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    bar.advance()
        else:
            for number, part in enumerate(todo):
                results[number] = one(part)
                bar.advance()
    return _summed((results[number] for number in range(len(todo))), detector)


def _audit_part(part: Part, detector: Detector, tokenizer: Path | None, root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"documents": 0, "bytes": 0, "unreadable": 0, "matches": []}
    for name, text in _texts(part, tokenizer, root):
        if text is None:
            found["unreadable"] += 1
            continue
        found["documents"] += 1
        found["bytes"] += len(text.encode(errors="replace"))
        found["matches"] += [match.row(name) for match in detector.matches(text)]
    return found


def _texts(part: Part, tokenizer: Path | None, root: Path) -> Iterator[tuple[str, str | None]]:
    kind, place, first, count = part
    path = Path(place)
    where = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if kind == "tokens":
        from megatron_snow.tokens.indexed import IndexedDataset
        from megatron_snow.tokens.inspection import decoder

        assert tokenizer is not None and first is not None  # ``audit`` sees to the one, ``parts`` to the other
        data, decode = IndexedDataset(path), decoder(tokenizer)
        yield from ((f"{where}:{number}", decode(data.doc(number).tolist())) for number in range(first, first + count))
        return
    for number, row in enumerate(raw_rows(path, first, _LONGEST)):
        place = f"{where}:{number}" if first is None else f"{where}:{first}:{number}"
        if isinstance(row, Broken):
            if row.reason == "damaged file":
                raise SnowError(f"{row.detail}; fetch or make it again")
            yield place, None
            continue
        text = next((row[name] for name in COLUMNS["text"] if row.get(name) is not None), None) if isinstance(row, dict) else None
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        yield _name(row, place), text if isinstance(text, str) else None


def _name(row: Any, place: str) -> str:
    if isinstance(row, dict) and isinstance(row.get("id"), str):
        return str(row["id"])
    return place


def _summed(results: Iterable[dict[str, Any]], detector: Detector) -> dict[str, Any]:
    sought: dict[str, set[str]] = defaultdict(set)
    for item in detector.items:
        sought[item.benchmark].add(item.problem)
    total: dict[str, Any] = {"documents": 0, "bytes": 0, "unreadable": 0, "matches": []}
    for result in results:
        for key, value in result.items():
            total[key] += value
    benchmarks = {}
    for name, problems in sorted(sought.items()):
        of = [match for match in total["matches"] if match["benchmark"] == name]
        benchmarks[name] = {
            "sought": len(problems),
            "found": len({match["problem"] for match in of}),
            "found_exactly": len({match["problem"] for match in of if match["how"] == "exact"}),
            "documents": len({match["document"] for match in of}),
        }
    return {**total, "benchmarks": benchmarks, "ignored": len(detector.ignored)}


def render(result: dict[str, Any], shown: int = 20) -> str:
    """The result as a table, with the first matches."""
    head = f"{result['documents']:,} documents, {result['bytes'] / 1e6:,.1f} MB" + (
        f", {result['unreadable']:,} rows without text" if result["unreadable"] else ""
    )
    lines = [head, "", f"{'benchmark':<24}{'problems':>10}{'found':>8}{'exactly':>9}{'documents':>11}"]
    for name, counts in result["benchmarks"].items():
        lines.append(f"{name:<24}{counts['sought']:>10,}{counts['found']:>8,}{counts['found_exactly']:>9,}{counts['documents']:>11,}")
    matches = result["matches"]
    if matches:
        lines.append("")
    for match in matches[:shown]:
        how = "exactly" if match["how"] == "exact" else f"{100 * match['share']:.0f} % of its words"
        lines.append(f"{match['benchmark']} {match['problem']}, {match['what']}, {how}: {match['document']}")
    if len(matches) > shown:
        lines.append(f"... and {len(matches) - shown:,} more; --report FILE has all")
    return "\n".join(lines)
