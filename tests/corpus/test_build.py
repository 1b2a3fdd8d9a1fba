"""The whole arrow on a small corpus with something of everything planted in it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.corpus import build, source_fingerprint
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import read_dropped
from megatron_snow.corpus.settings import CorpusSettings, FolderSource, StdlibSource
from megatron_snow.corpus.shingles import similarities
from megatron_snow.signatures.diversity import effective


def code(name: str, lines: int = 30) -> str:
    """Ordinary Python that no other name gives."""
    return "".join(f"def {name}_{i}(value):\n    return value + {name}_{i + 1}(value)\n\n\n" for i in range(lines))


def row(repository: str, path: str, content: str, **more: object) -> dict:
    return {"content": content, "max_stars_repo_path": path, "max_stars_repo_name": repository, "max_stars_repo_licenses": ["MIT"], **more}


def planted() -> list[dict]:
    """Rows that stay (of twelve repositories and two languages), and one or two rows for each way to go."""
    rows = [row(f"owner/r{r}", f"m{i}.py", code(f"r{r}m{i}")) for r in range(12) for i in range(4)]
    rows += [
        row(f"owner/r{r}", "main.go", f"package r{r}\n\n" + "".join(f"func F{r}x{i}(a int) int {{ return a * {i} }}\n" for i in range(20))) for r in range(6)
    ]
    notebook = {"cells": [{"cell_type": "code", "source": code("cell", 3), "outputs": ["QUJD" * 1000]}], "metadata": {}}
    problem = load_humaneval()[1]
    rows += [
        row("owner/r0", "n.ipynb", json.dumps(notebook)),
        row("owner/r1", "leak.py", code("leak") + problem.prompt + problem.canonical_solution),
        row("owner/r2", "leak2.py", code("other") + "\n".join("# " + w for w in ["x"]) + problem.canonical_solution.replace("    ", "\t")),
        row("owner/r3", "copy.py", code("r4m0"), max_stars_repo_licenses=[]),
        row("owner/r5", "near.py", code("r6m1").replace("r6m1_7(value):", "r6m1_7(value, more):"), max_stars_repo_licenses=[]),
        row("owner/r7", "made.py", "# This file is generated\n" + code("made")),
        row("owner/r7", "third_party/dep.py", code("dep")),
        row("owner/r7", "wide.py", "x = '" + "long word " * 200 + "'\n"),
        row("owner/r8", "a.unheard", code("unheard")),
        row("owner/r8", "a.cob", "IDENTIFICATION DIVISION.\nPROGRAM-ID. A.\n"),
        row("owner/r8", "nul.py", "a\0b"),
        row("owner/r9", "m0.py", code("revision")),
    ]
    return rows


def write_rows(folder: Path, rows: list[dict], files: int) -> FolderSource:
    folder.mkdir()
    for number in range(files):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows[number::files]) + "{broken\n" * (number == 0))
    return FolderSource(name="stack", path=folder)


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    root = tmp_path_factory.mktemp("corpus")
    work = root / "work"
    work.mkdir()
    settings = CorpusSettings(sources=(write_rows(root / "rows", planted(), 3),), heldout_fraction=0.15, workers=1)
    return build(settings, 1, work), work


def test_every_planted_row_goes_for_its_reason(built: tuple[dict, Path]) -> None:
    counts, work = built
    summary = json.loads((work / "summary.json").read_text())
    assert summary["drops"] == {
        "contaminated": {"Python": 2},
        "exact duplicate": {"Python": 1},
        "near duplicate": {"Python": 1},
        "says it is generated": {"Python": 1},
        "vendored": {"Python": 1},
        "long lines": {"Python": 1},
        "other language": {"COBOL": 1, "unknown": 1},
        "holds NUL bytes": {"unknown": 1},
        "malformed row": {"unknown": 1},
    }
    assert summary["in"] == len(planted()) + 1 == summary["kept"] + sum(counts["drops"].values())
    assert counts["documents"] + counts["heldout_documents"] == summary["kept"] == 48 + 6 + 1 + 1
    assert {example["id"] for example in summary["examples"]["contaminated"]} == {"stack/owner/r1/leak.py", "stack/owner/r2/leak2.py"}
    sizes = Counter()
    for document in read_documents(work / "standard"):
        sizes[document["repository"]] += len(document["text"].encode())
    told = summary["standard"]
    largest = sorted(sizes.items(), key=lambda one: (-one[1], one[0]))[:10]
    assert told["repositories"] == len(sizes) and told["largest_repositories"] == [list(one) for one in largest]
    assert told["effective_repositories"] == pytest.approx(effective(sizes.values()), abs=1e-3)
    assert summary["decontamination"]["benchmarks"] == {"humaneval": summary["decontamination"]["sought"]}
    assert summary["decontamination"]["found"] == {"humaneval HumanEval/1 docstring": 1, "humaneval HumanEval/1 solution": 2}
    named = [json.loads(line) for line in (work / "contaminated.jsonl").read_text().splitlines()]
    assert sorted((one["document"], one["problem"], one["what"], one["how"]) for one in named) == [
        ("stack/owner/r1/leak.py", "HumanEval/1", "docstring", "exact"),
        ("stack/owner/r1/leak.py", "HumanEval/1", "solution", "exact"),
        ("stack/owner/r2/leak2.py", "HumanEval/1", "solution", "exact"),
    ]
    assert summary["examples"]["exact duplicate"] == [{"id": "stack/owner/r3/copy.py", "snippet": "same as stack/owner/r4/m0.py"}]
    assert summary["examples"]["near duplicate"][0]["snippet"].startswith("near stack/owner/r6/m1.py\n")
    assert sorted(p.name for p in work.iterdir()) == [
        "contaminated.jsonl",
        "dropped.jsonl.zst",
        "heldout",
        "samples.jsonl",
        "signals.parquet",
        "standard",
        "summary.json",
    ]


def test_samples_of_every_rule_and_of_what_is_kept(built: tuple[dict, Path]) -> None:
    _, work = built
    summary = json.loads((work / "summary.json").read_text())
    samples = [json.loads(line) for line in (work / "samples.jsonl").read_text().splitlines()]
    dropped = {(s["reason"], s["language"]) for s in samples if s["kind"] == "dropped"}
    assert dropped == {(reason, language) for reason, languages in summary["drops"].items() for language in languages}
    kept = {d["id"]: d for side in ("standard", "heldout") for d in read_documents(work / side)}
    shown = [s for s in samples if s["kind"] == "kept"]
    assert {s["language"]: 0 for s in shown} == {"Go": 0, "Jupyter Notebook": 0, "Python": 0} and len(shown) == 4 + 1 + 4
    for sample in shown:
        document = kept[sample["id"]]
        assert {name: document[name] for name in ("language", "repository", "path", "license")}.items() <= sample.items()
        assert sample["text"] == document["text"][:2_000]


def test_documents_are_whole_unique_and_in_order(built: tuple[dict, Path]) -> None:
    _, work = built
    standard, heldout = list(read_documents(work / "standard")), list(read_documents(work / "heldout"))
    originals = {r["content"] for r in planted()}
    for tier in (standard, heldout):
        keys = [(d["language"], d["repository"]) for d in tier]
        assert keys == sorted(keys)
        assert all(d["text"] in originals for d in tier if d["language"] != "Jupyter Notebook")
    every = standard + heldout
    assert len({d["id"] for d in every}) == len(every) and "stack/owner/r9/m0.py#2" in {d["id"] for d in every}
    assert next(d for d in every if d["language"] == "Jupyter Notebook")["text"] == code("cell", 3).rstrip("\n") + "\n"
    assert {d["license"] for d in every} == {"MIT"} and {d["source"] for d in every} == {"stack"}
    paths = [d["path"] for d in standard if d["language"] == "Python"]
    assert paths != sorted(paths)  # random inside a repository


def test_no_repository_is_on_both_sides_and_both_have_the_languages(built: tuple[dict, Path]) -> None:
    _, work = built
    sides = [list(read_documents(work / side)) for side in ("standard", "heldout")]
    repositories = [{d["repository"] for d in side} for side in sides]
    assert repositories[0].isdisjoint(repositories[1]) and len(repositories[0] | repositories[1]) == 12
    assert all({"Python", "Go"} <= {d["language"] for d in side} for side in sides)


def test_no_near_duplicate_straddles_the_split(built: tuple[dict, Path]) -> None:
    _, work = built
    standard, heldout = ([d["text"].encode() for d in read_documents(work / side)] for side in ("standard", "heldout"))
    pairs = np.array([(i, len(standard) + j) for i in range(len(standard)) for j in range(len(heldout))])
    assert similarities(standard + heldout, pairs, 5).max() < 0.7


def test_the_result_does_not_depend_on_how_rows_are_dealt_into_files(built: tuple[dict, Path], tmp_path: Path) -> None:
    _, work = built
    (tmp_path / "work").mkdir()
    settings = CorpusSettings(sources=(write_rows(tmp_path / "rows", planted()[::-1], 1),), heldout_fraction=0.15, workers=1)
    build(settings, 1, tmp_path / "work")
    ours, theirs = hashes(tmp_path / "work"), hashes(work)
    told = {"summary.json", "samples.jsonl", "signals.parquet", DROPPED}  # they name the rows that could not be read by their files
    assert {n: h for n, h in ours.items() if n not in told} == {n: h for n, h in theirs.items() if n not in told}
    assert Counter(r["reason"] for r in read_dropped(tmp_path / "work" / DROPPED)) == Counter(r["reason"] for r in read_dropped(work / DROPPED))


def test_a_finished_run_is_not_redone_and_its_leavings_go(built: tuple[dict, Path]) -> None:
    counts, work = built
    before = hashes(work)
    (work / "stages").mkdir()
    settings = CorpusSettings(sources=(FolderSource(name="gone", path=Path("gone")),))
    assert build(settings, 1, work) == counts and hashes(work) == before


LIBRARY = CorpusSettings(sources=(StdlibSource(only=("asyncio", "email", "json", "csv", "difflib"), max_bytes=3_000_000),), heldout_fraction=0.2, workers=1)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    work = tmp_path_factory.mktemp("library")
    build(LIBRARY, 5, work)
    return hashes(work)


def test_two_workers_make_the_same_bytes(library: dict[str, str], tmp_path: Path) -> None:
    build(LIBRARY.model_copy(update={"workers": 2}), 5, tmp_path)
    assert hashes(tmp_path) == library
    assert LIBRARY.identity() == LIBRARY.model_copy(update={"workers": 2}).identity()


def test_another_seed_makes_another_order_of_the_same_library(library: dict[str, str], tmp_path: Path) -> None:
    build(LIBRARY, 6, tmp_path)
    assert hashes(tmp_path) != library


def test_a_killed_run_goes_on_to_the_same_bytes(library: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from megatron_snow.corpus import build; from megatron_snow.corpus.settings import CorpusSettings\n"
        "build(CorpusSettings.model_validate_json(sys.argv[1]), 5, Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, LIBRARY.model_dump_json(), str(tmp_path)], stderr=subprocess.DEVNULL, start_new_session=True)
    completions = tmp_path / "stages/filter-logs/completions"
    deadline = time.monotonic() + 60
    while not (completions.is_dir() and any(completions.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(completions.iterdir()) and not (tmp_path / "summary.json").exists(), "killed too late to show anything"
    build(LIBRARY, 5, tmp_path)
    assert hashes(tmp_path) == library


def test_fingerprint_follows_sources_and_nothing_else(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows", planted()[:3], 1)
    settings = CorpusSettings(sources=(source, StdlibSource(only=("json",))))
    before = source_fingerprint(settings)
    assert source_fingerprint(settings.model_copy(update={"heldout_fraction": 0.3})) == before
    (tmp_path / "rows/more.jsonl").write_text("{}\n")
    assert source_fingerprint(settings) != before


def test_what_the_user_can_mend_is_said(tmp_path: Path) -> None:
    missing = CorpusSettings(sources=(FolderSource(name="stack", path=tmp_path / "absent"),), workers=1)
    with pytest.raises(SnowError, match="absent does not exist"):
        source_fingerprint(missing)
    with pytest.raises(SnowError, match="absent does not exist"):
        build(missing, 1, tmp_path / "a")
    with pytest.raises(SnowError, match="did you mean 'Python'"):
        build(CorpusSettings(languages=("Pyhton",)), 1, tmp_path / "b")
    source = write_rows(tmp_path / "rows", [row("o/r", "a.py", "1 + 1\n"), row("o/r", "b.py", "2 + 2\n")], 1)
    with pytest.raises(SnowError, match=r"corpus is empty: all 3 documents were dropped \(\{'few letters': 2"):
        build(CorpusSettings(sources=(source,), workers=1), 1, tmp_path / "c")
    single = write_rows(tmp_path / "single", [row("o/r", "a.py", code("a"))], 1)
    with pytest.raises(SnowError, match=r"one repository only \(o/r\)"):
        build(CorpusSettings(sources=(single,), workers=1), 1, tmp_path / "d")
