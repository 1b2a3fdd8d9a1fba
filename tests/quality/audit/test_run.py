"""A whole audit of a small annotator on the real corpus."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from megatron_snow.artifacts.documents import read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import Building
from megatron_snow.cli.commands import app
from megatron_snow.quality import AnnotateSettings, annotate
from megatron_snow.quality.audit.human import read_labels
from megatron_snow.quality.audit.run import audit
from megatron_snow.quality.audit.scorer import Scorer
from megatron_snow.quality.audit.settings import AuditSettings
from megatron_snow.report.annotator_page import render_validation

SEED = 3


@pytest.fixture(scope="module")
def road(corpus, documents, tokenizer, small_encoder, tmp_path_factory):
    """(annotate artefact, corpus with a held-out tier)"""
    folder = tmp_path_factory.mktemp("road")
    held_out = [d for d in documents if d["repository"] in ("python/cpython/xml", "python/cpython/zoneinfo", "numpy2")]
    write_documents(folder / "corpus" / "standard", [d for d in documents if d not in held_out])
    write_documents(folder / "corpus" / "heldout", held_out)
    positives = [{"kind": "repositories", "globs": ["python/cpython/[a-e]*", "numpy1/*"], "count": 12}]
    values = {"encoder": str(small_encoder), "pooling": "mean", "section": 32, "positives": positives, "negatives": 14, "tokens": 60_000}
    settings = AnnotateSettings.model_validate({**values, "head": {"epochs": 5, "validation": 0.3}})
    building = Building(folder / "3-annotate", "annotate", 1, settings.identity(), SEED, {}).open()
    building.counts = annotate(settings, SEED, folder / "corpus", tokenizer, building.work)
    building.publish()
    return folder / "3-annotate", folder / "corpus"


@pytest.fixture(scope="module")
def labels(road, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "path"])
        for i, document in enumerate(list(read_documents(road[1] / "standard"))[::4]):
            name = document["id"] if i % 2 else f"{document['repository']}/{document['path']}"
            rows.writerow([int('"""' in document["text"]), name])
    (path.parent / "own.py").write_text("print(1)\n")
    path.write_text(path.read_text() + "0,own.py\n")
    return path


@pytest.fixture(scope="module")
def found(road, labels, tmp_path_factory):
    work = tmp_path_factory.mktemp("audit")
    settings = AuditSettings(benchmarks=["humaneval"], labels=labels, files=60, edited=12, against=[road[0]], seeds=1, resamples=100)
    return audit(settings, SEED, *road, work), work


def test_the_scorer_gives_the_tiers_scores_to_the_bit(road):
    scores = {row["id"]: row["score"] for row in pq.read_table(road[0] / "scores.parquet").to_pylist()}
    some = list(read_documents(road[1] / "standard"))[::9]
    with Scorer(road[0]) as scorer:
        again = scorer.scores([d["text"] for d in some], [d["language"] for d in some], "scoring")
    assert again.tolist() == [scores[d["id"]] for d in some]


def test_unseen_files_are_not_labelled_and_of_new_repositories_first(found, road):
    result, _ = found
    labelled = pq.read_table(road[0] / "labelled.parquet").to_pylist()
    known = {row["repository"] for row in labelled if row["side"] == "training"}
    new = [d for tier in ("standard", "heldout") for d in read_documents(road[1] / tier) if d["repository"] not in known]
    new = [d for d in new if d["id"] not in {row["id"] for row in labelled}]
    assert result["unseen"] == {"files": 60, "new_repositories": min(60, len(new))}


def test_every_part_is_there_and_adds_up(found):
    result, work = found
    assert json.loads((work / "validation.json").read_text()) == json.loads(json.dumps(result))
    (benchmark,) = result["benchmarks"]
    assert benchmark["solutions"] == 164 and benchmark["interval"][0] <= benchmark["auc"] <= benchmark["interval"][1]
    assert result["labels"]["spearman"]["interval"] and sum(one["files"] for one in result["labels"]["calibration"]["bins"]) == result["labels"]["files"]
    assert {row["trait"] for row in result["keys"]["correlations"]} >= {"characters", "lines", "comment_share", "docstring_share"}
    assert {row["edit"] for row in result["keys"]["edits"]} >= {"comments stripped", "names renamed", "minified"}
    (itself,) = result["agreement"]
    assert itself["spearman"]["value"] == pytest.approx(1) and itself["kendall"]["value"] == pytest.approx(1) and itself["selected_overlap"]["value"] == 1
    assert result["seeds"]["seeds"] == [SEED, SEED + 1] and -1 <= result["seeds"]["spearman_between"]["least"] < 1


def test_an_audit_is_reproducible(found, road, labels, tmp_path):
    settings = AuditSettings(labels=labels, files=60, edited=12, resamples=100)
    again = audit(settings, SEED, *road, tmp_path)
    for part in ("unseen", "labels", "keys"):
        assert json.dumps(again[part]) == json.dumps(found[0][part])


def test_the_page_shows_it_and_escapes_it(found):
    result = json.loads(json.dumps(found[0]))
    result["agreement"][0]["other"] = "<script>alert(1)</script>"
    page = render_validation(result)
    assert "<script>" not in page and "&lt;script&gt;" in page
    for what in ("humaneval", "Calibration", "comment share", "names renamed", "Spearman", "Other seeds"):
        assert what in page
    bare = {**result, "benchmarks": [], "labels": None, "seeds": None, "agreement": [], "keys": {**result["keys"], "edits": []}}
    assert render_validation(bare).count('class="missing"') == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", r"no column 'path' \(it has file, label\)"),
        ("path,label\na,x\n", r"line 2: the label is 'x', not a number"),
        ("path,label\na,nan\n", "the label finite"),
        ("path,label\na,1\na,0\n", "a has two labels, 1 and 0"),
        ("path,label\na,1\n", "labels 1 files; ranks need 10"),
        ("path,label\n" + "".join(f"{i},1\n" for i in range(12)), "all 12 labels are 1"),
        ("path,label\n" + "".join(f"{i}.py,{i}\n" for i in range(12)), r"there is no '0\.py', neither in the corpus"),
        ("", "no column 'path'"),
    ],
)
def test_bad_labels_are_refused(road, tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SnowError, match=message):
        read_labels(tmp_path / "labels.csv", [road[1] / "standard"])


def test_what_is_no_annotator_is_refused(road, tmp_path):
    with pytest.raises(SnowError, match="no finished annotate artefact"):
        Scorer(tmp_path)
    with pytest.raises(SnowError, match="does not exist"):
        audit(AuditSettings(files=20), SEED, tmp_path, road[1], tmp_path)
    pq.write_table(pq.read_table(road[0] / "scores.parquet").drop_columns(["score"]), tmp_path / "other.parquet")
    with pytest.raises(SnowError, match=r"--against: .*has no column 'score'"):
        audit(AuditSettings(files=20, against=[tmp_path / "other.parquet"]), SEED, *road, tmp_path)


def test_too_small_a_corpus_is_told(road, tmp_path):
    few = list(read_documents(road[1] / "standard"))[:10]
    write_documents(tmp_path / "standard", few)
    with pytest.raises(SnowError, match=r"only \d+ files are in the corpus beside the labelled ones, 20 are needed"):
        audit(AuditSettings(files=50), SEED, road[0], tmp_path, tmp_path)


def test_the_command_answers_mistakes_without_a_traceback(tmp_path):
    recipe = "tests/road/tiny.yaml"
    for arguments, message in ((["--benchmark", "nope"], "unknown benchmark"), (["--files", "3"], "files"), ([], "does not exist")):
        outcome = CliRunner().invoke(app, ["validate-annotator", recipe, "--out", str(tmp_path / "out"), *arguments])
        assert isinstance(outcome.exception, SnowError) and message in str(outcome.exception)


def test_the_command_ends_with_where_its_result_is(road, tmp_path, monkeypatch):
    monkeypatch.setenv("SNOW_OUTPUT", "json")
    (tmp_path / "1-corpus").symlink_to(road[1])
    command = ["validate-annotator", "tests/road/tiny.yaml", "--out", str(tmp_path), "--annotator", str(road[0]), "--files", "40", "--edited", "5"]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert "keys" in json.loads(Path(found["result"]).read_bytes()) and Path(found["page"]).read_text().startswith("<!")


def test_scores_are_finite(found):
    assert np.isfinite([row["change"] for row in found[0]["keys"]["edits"]]).all()
