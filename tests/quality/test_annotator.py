"""The whole arrow on real files."""

import argparse
import hashlib
import json
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from megatron_snow.artifacts.documents import read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality import AnnotateSettings, annotate, source_fingerprint
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.heads import load_heads
from megatron_snow.tokens.encoder import count_tokens


def contents(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(corpus, tokenizer, small_encoder, tmp_path_factory):
    """One run over the whole corpus, with its counts."""
    work = tmp_path_factory.mktemp("annotate")
    positives = [{"kind": "repositories", "globs": ["python/cpython/[a-h]*"], "count": 30}]
    values = {"encoder": str(small_encoder), "pooling": "mean", "section": 32, "batch_tokens": 16, "positives": positives, "negatives": 40, "tokens": 60_000}
    settings = AnnotateSettings.model_validate({**values, "head": {"epochs": 5}})  # windows of 64 files, a section a batch
    return settings, work, annotate(settings, 1, corpus, tokenizer, work)


def test_the_tier_is_the_selected_rows_in_order_with_score_and_tokens(made, corpus, tokenizer):
    _, work, counts = made
    scores = {row["id"]: row for row in pq.read_table(work / "scores.parquet").to_pylist()}
    selected = {name for name, row in scores.items() if row["selected"]}
    tier, standard = list(read_documents(work / "high_quality")), list(read_documents(corpus / "standard"))
    assert [d["id"] for d in tier] == [d["id"] for d in standard if d["id"] in selected]
    assert scores.keys() == {d["id"] for d in standard}
    originals = {d["id"]: d for d in standard}
    for document in tier:
        assert {**document} == {**originals[document["id"]], "score": scores[document["id"]]["score"], "tokens": scores[document["id"]]["tokens"]}
    assert [d["tokens"] for d in tier] == count_tokens(tokenizer, [d["text"] for d in tier])
    assert counts["selected"] == len(tier) and counts["selected_tokens"] == sum(d["tokens"] for d in tier)
    largest = {row["language"]: max(other["tokens"] for other in scores.values() if other["language"] == row["language"]) for row in scores.values()}
    assert abs(counts["selected_tokens"] - 60_000) <= sum(largest.values()) / 2  # each language is within half a file of its share


def test_a_score_is_the_mean_over_the_files_own_sections(made, corpus):
    settings, work, _ = made
    encoder, (heads, about) = SectionEncoder(settings), load_heads(work / "head.safetensors")
    assert about == {"encoder": settings.encoder, "pooling": "mean", "section": 32, "task": "classification"}
    scores = {row["id"]: row for row in pq.read_table(work / "scores.parquet").to_pylist()}
    for document in list(read_documents(corpus / "standard"))[::15]:
        (sections,) = encoder.sections([document["text"]])
        vectors = encoder.embed(sections)  # this file alone
        assert scores[document["id"]]["sections"] == len(sections)
        assert scores[document["id"]]["score"] == heads.file_scores(vectors, np.array([len(sections)]), [document["language"]])[0]  # to the last bit
        assert scores[document["id"]]["score"] == pytest.approx(heads.heads["*"].section_scores(vectors).mean(), rel=1e-12)


def test_the_summary_says_what_the_report_needs(made, documents):
    _, work, counts = made
    summary = json.loads((work / "summary.json").read_text())
    labelled, validation = summary["labelled"], summary["validation"]
    assert [source["found"] for source in labelled["sources"]] == [30, 40]
    assert sum(labelled[side][name] for side in ("training", "validation") for name in ("positives", "negatives")) == 70
    assert (validation["positives"], validation["negatives"]) == (labelled["validation"]["positives"], labelled["validation"]["negatives"])
    assert counts["auc"] == validation["auc"] and 0 <= validation["auc"] <= 1
    assert sum(sum(one) for one in summary["histogram"]["languages"].values()) == len(documents)
    assert summary["losses"][-1] < summary["losses"][0] < 0.7
    assert sum(one["files"] for one in summary["deciles"]) == len(documents) and len(summary["deciles"]) == 10
    texts = {d["id"]: d["text"] for d in documents}
    previous = 0.0
    for tenth in summary["deciles"]:
        assert previous <= tenth["from"] <= tenth["to"] <= 1
        previous = tenth["to"]
        for example in tenth["examples"]:
            assert tenth["from"] <= example["score"] <= tenth["to"] and texts[example["id"]].startswith(example["snippet"])
    assert not (work / "parts").exists()


def test_shards_do_not_change_anything(made, documents, tokenizer, tmp_path):
    settings, work, counts = made
    write_documents(tmp_path / "corpus" / "standard", documents)  # one shard
    (tmp_path / "work").mkdir()
    assert annotate(settings, 1, tmp_path / "corpus", tokenizer, tmp_path / "work") == counts
    assert contents(tmp_path / "work") == contents(work)


def test_a_killed_run_goes_on_and_makes_the_same(made, corpus, tokenizer, tmp_path):
    """Killed for real once the first of two windows is scored."""
    settings, whole, counts = made
    killed = tmp_path / "killed"
    killed.mkdir()
    script = (
        "import sys; from pathlib import Path; from megatron_snow.quality import AnnotateSettings, annotate; "
        "annotate(AnnotateSettings.model_validate_json(sys.argv[1]), 1, *map(Path, sys.argv[2:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, settings.model_dump_json(), str(corpus), str(tokenizer), str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.glob("parts/scored*/*.parquet")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert list(killed.glob("parts/scored*/*.parquet")) and not (killed / "summary.json").exists()
    assert annotate(settings, 1, corpus, tokenizer, killed) == counts
    assert contents(killed) == contents(whole)


def test_a_budget_larger_than_the_corpus_takes_all_and_says_so(settings, corpus, documents, tokenizer, tmp_path, capsys):
    counts = annotate(settings(tokens="1T"), 1, corpus, tokenizer, tmp_path)
    assert counts["selected"] == len(documents) and counts["shortfall_tokens"] == 10**12 - counts["selected_tokens"] > 0
    assert "every scored file is selected" in capsys.readouterr().err
    assert len(list(read_documents(tmp_path / "high_quality"))) == len(documents)


def test_only_sampled_files_are_scored_and_the_mix_is_still_the_corpuss(settings, corpus, tokenizer, tmp_path):
    counts = annotate(settings(max_documents=50, tokens=20_000), 1, corpus, tokenizer, tmp_path)
    assert counts["scored"] == 50
    selection = json.loads((tmp_path / "summary.json").read_text())["selection"]
    texts: dict[str, int] = {}
    for document in read_documents(corpus / "standard"):
        texts[document["language"]] = texts.get(document["language"], 0) + count_tokens(tokenizer, [document["text"]])[0]
    for language, one in selection.items():
        assert one["mix"] == pytest.approx(texts[language] / sum(texts.values()), rel=0.15)  # an estimate from the sample's tokens a byte


def test_jsonl_positives_and_the_real_encoder_find_prose_among_code(settings, corpus, tokenizer, tmp_path):
    """A task with a known answer: docstrings of functions as positives against code files."""
    import ast
    import inspect
    import statistics
    import textwrap

    trees = [ast.parse(inspect.getsource(module)) for module in (inspect, statistics, textwrap, argparse, subprocess)]
    found = [ast.get_docstring(node) or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    rows = [text for text in found if len(text) > 60]
    (tmp_path / "positives.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (tmp_path / "work").mkdir()
    positives = [{"kind": "jsonl", "path": str(tmp_path / "positives.jsonl"), "count": 40}]
    chosen = settings(encoder="fixture:all-MiniLM-L6-v2", positives=positives, negatives=40, max_documents=5, head={"validation": 0.3}, batch_tokens=256)
    counts = annotate(chosen, 1, corpus, tokenizer, tmp_path / "work")
    assert counts["auc"] > 0.9


def test_a_missing_file_of_positives_is_refused_and_nothing_is_left(settings, corpus, tokenizer, tmp_path):
    with pytest.raises(SnowError, match="does not exist"):
        annotate(settings(positives=[{"kind": "jsonl", "path": "none.jsonl", "count": 4}]), 1, corpus, tokenizer, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_source_fingerprint_follows_the_files_outside_the_road(settings, tmp_path):
    rows = tmp_path / "rows.jsonl"
    chosen = settings(positives=[{"kind": "jsonl", "path": str(rows), "count": 4}])
    prints = [source_fingerprint(chosen)]
    rows.write_text('{"text": "a"}\n')
    prints.append(source_fingerprint(chosen))
    assert source_fingerprint(chosen) == prints[-1]
    rows.write_text('{"text": "ab"}\n')
    prints.append(source_fingerprint(chosen))
    (tmp_path / "encoder" / "1_Pooling").mkdir(parents=True)
    for text in ("{}", '{"pooling_mode_cls_token": true}'):
        (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text(text)
        prints.append(source_fingerprint(chosen.model_copy(update={"encoder": str(tmp_path / "encoder")})))
    prints.append(source_fingerprint(chosen.model_copy(update={"encoder": "fixture:all-MiniLM-L6-v2"})))
    assert len(set(prints)) == 6


def test_settings_import_without_the_heavy_libraries():
    script = "import sys, megatron_snow.quality; print([n for n in ('torch', 'transformers', 'sklearn', 'pyarrow') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
