"""The paper's four annotators, each run small, the one that needs another's scores after it."""

import json

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality import AnnotateSettings, annotate


def test_the_presets_are_the_papers_numbers():
    edu, ins, hq, hqins = (AnnotateSettings(preset=name) for name in ("ann_edu", "ann_ins", "ann_hq", "ann_hqins"))
    assert edu.labels.scale == (0, 5) and [source.count for source in ins.positives] == [100_000, 100_000] and ins.positives[0].least == 3.5 / 5
    assert [source.count for source in hq.positives] == [220_000] and [source.count for source in hqins.positives] == [220_000, 80_000]
    assert edu.labels.count == 400_000 and ins.negatives == hq.negatives == hqins.negatives == 300_000 and hqins.positives == AnnotateSettings().positives
    assert AnnotateSettings(preset="ann_hq", negatives=5).negatives == 5
    assert AnnotateSettings.model_validate(json.loads(json.dumps(hqins.identity()))).positives == hqins.positives
    with pytest.raises(ValidationError, match="preset"):
        AnnotateSettings(preset="ann_nothing")


def test_each_is_tried(small_encoder, documents, corpus, tokenizer, tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    def run(name, **changes):
        values = {"encoder": str(small_encoder), "pooling": "mean", "section": 32, "tokens": 30_000, "head": {"epochs": 5, "learning_rate": 1e-2}}
        settings = AnnotateSettings.model_validate({**values, "preset": name, **changes})
        (tmp_path / name).mkdir()
        counts = annotate(settings, 1, corpus, tokenizer, tmp_path / name)
        return counts, json.loads((tmp_path / name / "summary.json").read_text())

    labels = write("edu.jsonl", [{**d, "label": min(5, d["text"].count('"""') / 4)} for d in documents])
    code = write("code.jsonl", [{"text": d["text"]} for d in documents if d["language"] == "C"] * 2)
    tasks = write("tasks.jsonl", [{"instruction": f"Add {i} to x.", "response": f"def f(x):\n    return x + {i}\n"} for i in range(30)])
    instructions = {"kind": "jsonl", "path": tasks, "count": 20, "columns": ["instruction", "response"]}
    high = {"kind": "jsonl", "path": code, "count": 30}

    counts, summary = run("ann_edu", labels={"path": labels, "count": 100, "repository": "repository", "language": "language"})
    assert summary["head"] == {"task": "regression", "heads": ["*"], "calibration": "none"} and counts["negatives"] == 0
    assert summary["validation"]["rmse"] > 0 and summary["labelled"]["sources"][0]["found"] == 100
    scores = pq.read_table(tmp_path / "ann_edu" / "scores.parquet")
    assert scores["probability"].null_count == len(documents)
    least = sorted(scores["score"].to_pylist())[-25]

    edu = {"kind": "scored", "path": str(tmp_path / "ann_edu" / "scores.parquet"), "least": least, "count": 20}
    _, summary = run("ann_ins", positives=[edu, instructions], negatives=40)
    assert [source["found"] for source in summary["labelled"]["sources"]] == [20, 20, 40]
    labelled = pq.read_table(tmp_path / "ann_ins" / "labelled.parquet").to_pylist()
    best = {row["id"] for row in scores.to_pylist() if row["score"] >= least}
    assert {row["id"] for row in labelled if row["source"] == 0} <= best

    _, summary = run("ann_hq", positives=[high], negatives=40)
    assert [source["found"] for source in summary["labelled"]["sources"]] == [30, 40] and summary["validation"]["calibration"]["bins"]
    _, summary = run("ann_hqins", positives=[high, instructions], negatives=40)
    assert [source["found"] for source in summary["labelled"]["sources"]] == [30, 20, 40]


@pytest.mark.parametrize(("column", "message"), [("score", r"positives\[0\]: .* has no column 'score'"), (None, "does not exist")])
def test_scores_that_are_none_are_refused(settings, corpus, tokenizer, tmp_path, column, message):
    import pyarrow as pa

    if column:
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / "scores.parquet")
    positives = [{"kind": "scored", "path": str(tmp_path / "scores.parquet"), "least": 0.5, "count": 9}]
    with pytest.raises(SnowError, match=message):
        annotate(settings(positives=positives), 1, corpus, tokenizer, tmp_path / "work")


def test_a_damaged_scores_file_is_refused(settings, corpus, tokenizer, tmp_path):
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SnowError, match="is no parquet file of scores"):
        annotate(settings(positives=[{"kind": "scored", "path": str(tmp_path / "scores.parquet"), "least": 0.5, "count": 9}]), 1, corpus, tokenizer, tmp_path)


def test_bad_labels_are_refused(settings, corpus, tokenizer, tmp_path):
    (tmp_path / "labels.jsonl").write_text('{"text": "x", "label": "good"}\n{"text": "y", "label": 7}\n')
    for count, scale, message in ((9, [0, 5], r"line [12]: column 'label' holds .*not a number from 0 to 5"),):
        with pytest.raises(SnowError, match=message):
            annotate(settings(labels={"path": str(tmp_path / "labels.jsonl"), "count": count, "scale": scale}), 1, corpus, tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repetition": {"horizon": "50B", "times": 4}, "tokens": "1M"}, "both state the budget"),
        ({"labels": {"path": "x", "count": 1, "scale": [5, 0]}}, "lowest, highest"),
        ({"labels": {"path": "x", "count": 1}, "hard_negatives": {}}, "hard_negatives are for classes"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        AnnotateSettings.model_validate(changes)


def test_the_papers_repetitions():
    for times, unique in ((1, 50e9), (2, 25e9), (4, 12.5e9), (5, 10e9)):
        assert AnnotateSettings.model_validate({"repetition": {"horizon": "50B", "times": times}}).budget == unique
    assert AnnotateSettings().budget == 12.5e9
