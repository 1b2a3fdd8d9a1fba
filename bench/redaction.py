#!/usr/bin/env python3
"""Recall on planted credentials of the twenty commonest kinds, false hits on installed code, and speed, of what keeps secrets out of the tiers.

    python bench/redaction.py [--each 10] [--seed 1] [--files 20000] [--kingfisher]

Credentials are made up, valid in form (tests/corpus/planted.py and the list it reads, which was written before any detector was tried). Found
is what is gone from the redacted text. --kingfisher measures its rules alone, beside. Clean code is the standard library and the installed
distributions: every hit on it is shown, for a reader to judge; secrets that somebody really published are hits too.
"""

from __future__ import annotations

import argparse
import random
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from megatron_snow.corpus.personal import email_addresses, ip_addresses, user_names
from megatron_snow.corpus.secrets import scanner, secrets
from megatron_snow.corpus.spans import merged, replaced
from tests.corpus.planted import BARE, NAMED, planted

CODE = {".py", ".h", ".hpp", ".c", ".cpp", ".cu", ".js", ".ts", ".sh", ".md", ".rst", ".json", ".yaml", ".yml", ".toml", ".html", ".css", ".java"}


def found_by_kingfisher(content: bytes) -> bytes:
    """The text without what kingfisher's own rules report."""
    for finding in sorted(scanner().scan(content), key=lambda one: -one.location["start_offset"]):
        if finding.visible:
            content = content[: finding.location["start_offset"]] + b"#" + content[finding.location["end_offset"] :]
    return content


def found_by_us(content: bytes) -> bytes:
    """The text redacted."""
    return replaced(content, merged(secrets(content)))


def recall(each: int, seed: int, name: str) -> None:
    """Print recall by kind and the misses by name."""
    redact = {"ours": found_by_us, "kingfisher alone": found_by_kingfisher}[name]
    hits: Counter[str] = Counter()
    every: Counter[str] = Counter()
    missed: dict[str, Counter[str]] = {}
    places: Counter[bool] = Counter()
    for one in planted(each, seed):
        left = redact(one.text.encode()).decode()
        gone = not any(secret in left for secret in one.secrets)
        hits[one.kind] += gone
        every[one.kind] += 1
        places[one.place in NAMED] += gone
        if not gone:
            missed.setdefault(one.kind, Counter())[one.place] += 1
    print(f"\n{name}: {hits.total()} of {every.total()} found, {100 * hits.total() / every.total():.1f} %", end="; ")
    print(f"assigned to a telling name {100 * places[True] / (20 * each * len(NAMED)):.1f} %, bare {100 * places[False] / (20 * each * len(BARE)):.1f} %")
    for kind, count in every.items():
        print(f"  {kind:32} {hits[kind]:4} of {count}", f"  missed in {dict(missed[kind])}" if kind in missed else "")


def clean(files: int, seed: int) -> None:
    """Print hits on installed code, and megabytes a CPU second of each detector."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    paths = sorted({path for root in roots for path in root.rglob("*") if path.suffix in CODE and path.is_file()})
    random.Random(seed).shuffle(paths)
    size, hit_files = 0, 0
    seconds: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    shown = []
    for path in paths[:files]:
        content = path.read_bytes()
        size += len(content)
        for detect in (secrets, email_addresses, ip_addresses, user_names):
            start = time.process_time()
            spans = list(detect(content))
            seconds[detect.__name__] += time.process_time() - start
            kinds.update(f"{detect.__name__}: {span.kind}" for span in spans)
            if detect is secrets and spans:
                hit_files += 1
                shown += [f"  {span.kind}: {path.name}: {content[max(0, span.start - 30) : span.end + 10]!r}" for span in merged(spans)]
    print(f"\nclean code: {min(files, len(paths))} files, {size / 1e6:.0f} MB; files with a secret found: {hit_files}")
    print("\n".join(shown[:60]))
    print("everything found:", dict(kinds.most_common()))
    print("MB a CPU second:", {name: round(size / 1e6 / spent, 1) for name, spent in seconds.items()}, "together", round(size / 1e6 / seconds.total(), 1))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=10, help="credentials of each kind in each place")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=20_000, help="installed files to look at")
    parser.add_argument("--kingfisher", action="store_true", help="measure its rules alone too")
    flags = parser.parse_args()
    start = time.perf_counter()
    scanner()
    print(f"rules loaded in {time.perf_counter() - start:.1f} s")
    recall(flags.each, flags.seed, "ours")
    if flags.kingfisher:
        recall(flags.each, flags.seed, "kingfisher alone")
    if flags.files:
        clean(flags.files, flags.seed)


if __name__ == "__main__":
    main()
