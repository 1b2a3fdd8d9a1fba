"""Samples: the same ones whoever saw which document first."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from megatron_snow.corpus.samples import DROPPED, KEPT, Sample, Samples, mark


def sample(kind: str, number: int, language: str = "C") -> Sample:
    reason = "" if kind == "kept" else "long lines"
    return Sample(kind=kind, reason=reason, language=language, id=f"{kind}{number}", repository="", path="", license="", text="x")


def test_the_same_in_any_order_and_any_number_of_tasks() -> None:
    every = [sample(kind, number, language) for kind in ("kept", "dropped") for number in range(60) for language in ("C", "Go")]
    results = []
    for seed, tasks in ((1, 1), (2, 5), (3, 60)):
        random.Random(seed).shuffle(every)
        whole = Samples()
        for task in range(tasks):
            part = Samples()
            for one in every[task::tasks]:
                order = mark(one["kind"], one["id"])
                if part.wants(one["kind"], one["reason"], one["language"], order):
                    part.add(order, one)
            whole.merge(orjson.loads(orjson.dumps(part.dump())))
        results.append(list(whole.rows()))
    assert results[0] == results[1] == results[2] and len(results[0]) == 2 * (DROPPED + KEPT)


def test_duplicates_are_forgotten_and_rare_languages_share(tmp_path: Path) -> None:
    samples = Samples(frozenset(["C"]))
    for number in range(10):
        samples.add(mark("kept", str(number)), sample("kept", number))
        samples.add(mark("dropped", str(number)), sample("dropped", number, f"language {number}"))
    first = next(row["id"] for row in samples.rows() if row["kind"] == "kept")
    samples.forget(first, "C")
    samples.write(tmp_path / "samples.jsonl")
    rows = [orjson.loads(line) for line in (tmp_path / "samples.jsonl").read_bytes().splitlines()]
    assert first not in {row["id"] for row in rows}
    assert sum(row["kind"] == "kept" for row in rows) == KEPT and sum(row["kind"] == "dropped" for row in rows) == DROPPED
