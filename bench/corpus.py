#!/usr/bin/env python3
"""The whole corpus arrow on N made documents: seconds, CPU seconds and resident memory of each stage, all processes together.

    python bench/corpus.py [--documents 100000] [--bytes 5000] [--workers 2] [--from TIER ...] [--folder FOLDER [--make]] [--seed 1]

Documents are made of real files: blocks of functions drawn from files of one language (--from: tiers, such as a road's 1-corpus/standard; else
the running Python's library and packages), shuffled, with some of their identifiers renamed, so that they are as code is and few are alike.
One in 20 is an exact copy of another and one in 20 a near copy, as duplicates have to be there to be found. Memory is the sum of the
proportional sets (each shared page counted once) and of the private ones, sampled every half second; CPU seconds are the kernel's. They are
what to compare on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import orjson
import psutil
import zstandard

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.units import format_bytes

SHARD = 10_000  # documents
POOL = 60_000_000  # bytes of real text that blocks are cut from, at most
REPOSITORY = 40  # files of a made repository
SUFFIXES = {
    "Python": "py",
    "Java": "java",
    "C": "c",
    "C++": "cpp",
    "JavaScript": "js",
    "Go": "go",
    "PHP": "php",
    "Ruby": "rb",
    "Scala": "scala",
    "Kotlin": "kt",
}
_BREAK = re.compile(r"\n\s*\n(?=\S)")
_NOTICE = re.compile(r"(?i)licen[sc]e|redistribut|warrant|liab")  # paragraphs of a notice stay together
_NAME = re.compile(r"\b[a-z_]{4,}\b")


def pool(tiers: list[Path]) -> dict[str, tuple[list[str], list[str]]]:
    """Language -> first blocks of real files (where their licence is stated), and further blocks."""
    if tiers:
        texts = ((document["language"], document["text"]) for tier in tiers for document in read_documents(tier))
    else:
        roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
        texts = (("Python", path.read_text(encoding="utf-8", errors="ignore")) for root in roots for path in sorted(root.rglob("*.py")))
    blocks: dict[str, list[str]] = defaultdict(list)
    heads: dict[str, list[str]] = defaultdict(list)
    size: dict[str, int] = defaultdict(int)
    for language, text in texts:
        if language in SUFFIXES and size[language] < POOL / (len(SUFFIXES) if tiers else 1):
            size[language] += len(text)
            first, *more = _BREAK.split(text)
            while more and len(first) < 4_000 and _NOTICE.search(more[0]):
                first += "\n\n" + more.pop(0)
            heads[language].append(first[:5_000])
            blocks[language] += [block for block in more if 60 < len(block) < 4_000]
    return {language: (heads[language], found) for language, found in blocks.items() if len(found) > 1_000}


def make(number: int, count: int, blocks: dict[str, tuple[list[str], list[str]]], size: int, seed: int, folder: Path) -> None:
    """One shard of rows."""
    draw = random.Random(f"{seed}/{number}")
    languages = list(blocks)
    rows: list[bytes] = []
    made: list[tuple[str, str]] = []
    for index in range(count):
        kind = draw.random()
        repository = (number * SHARD + index) // REPOSITORY
        its = random.Random(f"{seed}/repository/{repository}")  # a repository has a language, and its licence's notice in every file
        own_language = its.choice(languages)
        head = its.choice(blocks[own_language][0])
        if made and kind < 0.1:
            language, text = draw.choice(made)
            if kind < 0.05:
                lines = text.split("\n")
                lines[draw.randrange(len(lines))] = f"changed_{number}_{index}"
                text = "\n".join(lines)
        else:
            language, more = own_language, blocks[own_language][1]
            parts = [draw.choice(more)]
            wanted = draw.uniform(0.4, 1.6) * size - len(head) - len(parts[0])
            while wanted > 0:
                parts.append(draw.choice(more))
                wanted -= len(parts[-1])
            body = "\n\n".join(parts) + "\n"
            for name in draw.sample(names := _NAME.findall(parts[-1]), min(4, len(names))):
                body = body.replace(name, f"{name}_{draw.randrange(10**6)}")
            text = f"{head}\n\n{body}"  # a repository's notice as it is: of 23,250 real files 644 had one of their own (LOG.md 2026-11-26)
            made.append((language, text))
        path = f"src/f{index}.{SUFFIXES[language]}"
        rows.append(
            orjson.dumps({"content": text, "max_stars_repo_path": path, "max_stars_repo_name": f"owner/r{repository}", "max_stars_repo_licenses": ["MIT"]})
        )
    (folder / f"{number:05d}.jsonl.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(b"\n".join(rows) + b"\n"))


def make_shards(numbers: range, flags: argparse.Namespace, blocks: dict[str, tuple[list[str], list[str]]], folder: Path) -> None:
    """Some of the shards."""
    for number in numbers:
        make(number, min(SHARD, flags.documents - number * SHARD), blocks, flags.bytes, flags.seed, folder)


def run(source: Path, work: Path, workers: int) -> None:
    """The arrow in a process of its own, watched stage by stage."""
    settings = {"sources": [{"kind": "folder", "name": "made", "path": str(source)}], "workers": workers}
    program = (
        "import sys; from pathlib import Path; from megatron_snow.corpus import build; from megatron_snow.corpus.settings import CorpusSettings\n"
        "build(CorpusSettings.model_validate_json(sys.argv[1]), 1, Path(sys.argv[2]))"
    )
    stages = work / "stages"
    ends = [  # a stage is over when this is there
        ("list", lambda: (stages / "listing/listing.json").exists()),
        ("filter, redact, sign", lambda: (stages / "spool/index.arrow").exists() or (stages / "spool/index.arrow.part").exists()),
        ("duplicates", lambda: (work / "contaminated.jsonl").exists()),
        ("name what is dropped", lambda: (work / "dropped.jsonl.zst").exists()),
        ("split and order", lambda: (stages / "write-logs").exists()),
        ("write tiers", lambda: (work / "samples.jsonl").exists()),
        ("join signals", lambda: (work / "summary.json").exists()),
    ]
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-c", program, orjson.dumps(settings).decode(), str(work)], stderr=subprocess.DEVNULL)
    at, spent, before = 0, 0.0, (started, 0.0)
    peak: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    print(f"{'stage':<24}{'seconds':>9}{'CPU s':>9}{'MiB proportional':>19}{'private':>10}{'of the driver':>15}")
    while True:
        running = process.poll() is None
        while at < len(ends) and (ends[at][1]() or not running):
            now, name = time.perf_counter(), ends[at][0]
            memory = "".join(f"{bytes_ / 2**20:>{width}.0f}" for bytes_, width in zip(peak[name], (19, 10, 15), strict=True))
            print(f"{name:<24}{now - before[0]:>9.1f}{spent - before[1]:>9.1f}{memory}", flush=True)
            before, at = (now, spent), at + 1
        if not running:
            break
        total, cpu = [0, 0, 0], 0.0
        for one in [process, *process.children(recursive=True)]:
            try:
                memory, times = one.memory_full_info(), one.cpu_times()
            except psutil.Error:  # it has just ended
                continue
            total = [total[0] + memory.pss, total[1] + memory.uss, total[2] + (memory.rss if one is process else 0)]
            cpu += sum(times[:4])  # its own and that of children which ended
        spent = max(spent, cpu)
        if at < len(ends):
            peak[ends[at][0]] = [max(pair) for pair in zip(peak[ends[at][0]], total, strict=True)]
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"the arrow ended with {process.returncode}")
    summary = orjson.loads((work / "summary.json").read_bytes())
    most = [max(values) for values in zip(*peak.values(), strict=True)]
    seconds = time.perf_counter() - started
    print(f"{'all':<24}{seconds:>9.1f}{spent:>9.1f}{most[0] / 2**20:>19.0f}{most[1] / 2**20:>10.0f}{most[2] / 2**20:>15.0f}")
    size = sum(language["bytes"] for side in ("standard", "heldout") for language in summary[side]["languages"].values())
    count = summary["in"]
    print(f"{count / seconds:,.0f} documents/s; bytes a document: {most[0] / count:,.0f} proportional, {most[2] / count:,.0f} of the driver")
    print(f"{count:,} documents in, {summary['kept']:,} kept ({format_bytes(size)}); dropped:", {r: sum(c.values()) for r, c in summary["drops"].items()})


def main() -> None:
    """Make the documents, or take those that are there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=5_000, help="of a document, on average")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--from", dest="tiers", type=Path, nargs="*", default=[])
    parser.add_argument("--folder", type=Path, help="where documents are made and stay; else a temporary folder")
    parser.add_argument("--make", action="store_true", help="make the documents into --folder only")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    folder = flags.folder or Path(tempfile.mkdtemp(prefix="snow-corpus-"))
    source, work = folder / f"{flags.documents}-{flags.bytes}-{flags.seed}", folder / "work"
    try:
        if not source.exists():
            source.mkdir(parents=True)
            blocks, start = pool(flags.tiers), time.perf_counter()
            shards = range(-(-flags.documents // SHARD))
            context = multiprocessing.get_context("fork")  # so that the blocks are not copied
            makers = [context.Process(target=make_shards, args=(shards[w :: flags.workers], flags, blocks, source)) for w in range(flags.workers)]
            for maker in makers:
                maker.start()
            for maker in makers:
                maker.join()
            print(f"{flags.documents:,} documents of {', '.join(blocks)} made in {time.perf_counter() - start:.0f} s")
        if flags.make:
            return
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        run(source, work, flags.workers)
    finally:
        shutil.rmtree(folder if flags.folder is None else work, ignore_errors=True)


if __name__ == "__main__":
    main()
