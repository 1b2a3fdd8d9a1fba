import numpy as np
import orjson
import pytest

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.annotator import source_fingerprint
from megatron_snow.quality.labelled import NEGATIVE, read_labelled, split_by_repository, stands_for
from megatron_snow.quality.survey import take_survey


def test_labelled_files_come_with_their_texts(corpus, documents, settings, tmp_path):
    by_id = {d["id"]: d for d in documents}
    (tmp_path / "extra.jsonl").write_bytes(b"".join(orjson.dumps({"text": f"row {i}", "lang": "Go"}) + b"\n" for i in range(9)))
    jsonl = {"kind": "jsonl", "path": str(tmp_path / "extra.jsonl"), "count": 4, "language": "lang"}
    chosen = settings(positives=[{"kind": "functions", "count": 5, "docstring": 40}, jsonl], negatives=20)
    survey = take_survey(chosen, 0, corpus / "standard")
    found = list(read_labelled(chosen, 0, corpus / "standard", survey))
    assert sorted(example.source for example, _ in found) == [NEGATIVE] * 20 + [0] * 5 + [1] * 4
    for example, text in found:
        if example.source == NEGATIVE:
            assert text == by_id[example.name]["text"] and example.repository == by_id[example.name]["repository"]
        elif example.source == 0:
            assert text.startswith("def ") and text.strip() in by_id[example.name]["text"]
        else:
            assert text == f"row {int(example.name.split(':')[1]) - 1}" and example.language == "Go"
    assert found == list(read_labelled(chosen, 0, corpus / "standard", survey))


def test_files_people_labelled_high_teach_and_others_do_not(documents, settings, tmp_path):
    """Named by id, by repository/path, or beside the CSV; the held-out tier's teach nothing."""
    held_out = [d for d in documents if d["repository"] == "python/cpython/xml"]
    rest = [d for d in documents if d not in held_out]
    write_documents(tmp_path / "standard", rest)
    write_documents(tmp_path / "heldout", held_out)
    (tmp_path / "own.py").write_text("print(1)\n")
    by_id, by_path, low = rest[0:30:3], rest[31:60:3], rest[2:30:3]
    rows = [(d["id"], 5) for d in by_id] + [(f"{d['repository']}/{d['path']}", 4) for d in by_path] + [(d["id"], 1) for d in low]
    rows += [("own.py", 5), *((d["id"], 5) for d in held_out)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    chosen = settings(positives=[{"kind": "judged", "path": str(tmp_path / "labels.csv"), "count": 100}], negatives=500)
    survey = take_survey(chosen, 0, tmp_path / "standard")
    found = list(read_labelled(chosen, 0, tmp_path / "standard", survey))
    good = {example.name: text for example, text in found if example.source == 0}
    assert good == {d["id"]: d["text"] for d in (*by_id, *by_path)} | {"positives[0]:own.py": "print(1)\n"}
    assert all(example.label == float(example.source == 0) for example, _ in found)
    assert survey.negatives == {d["id"] for d in rest} - good.keys()  # asked for more than there are
    (own,) = (example for example, _ in found if example.name == "positives[0]:own.py")
    assert own.language == "Python"
    five = settings(positives=[{"kind": "judged", "path": str(tmp_path / "labels.csv"), "least": 5, "count": 100}])
    assert take_survey(five, 0, tmp_path / "standard").positives == (frozenset({*(d["id"] for d in by_id), "positives[0]:own.py"}),)
    before = source_fingerprint(five)
    (tmp_path / "own.py").write_text("print(12)\n")
    assert source_fingerprint(five) != before


def test_labels_that_cannot_teach_are_refused_by_their_source(corpus, settings, tmp_path):
    path = tmp_path / "labels.csv"
    chosen = settings(positives=[{"kind": "judged", "path": str(path), "count": 10}])
    with pytest.raises(SnowError, match=r"annotate\.positives\[0\]: cannot read the labels in .*labels\.csv"):
        take_survey(chosen, 0, corpus / "standard")
    source_fingerprint(chosen)  # a plan must be possible before the file is there


def make(repositories=60, seed=0):
    random = np.random.default_rng(seed)
    names = [f"r{i}" for i in range(repositories) for _ in range(random.integers(1, 30))]
    return names, random.random(len(names)) < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_by_repository_near_its_share_with_both_classes(seed):
    names, positive = make(seed=seed)
    held_out = split_by_repository(names, positive, 0.1, seed)
    assert not {n for n, out in zip(names, held_out, strict=True) if out} & {n for n, out in zip(names, held_out, strict=True) if not out}
    assert abs(held_out.mean() - 0.1) < 0.03
    assert abs(positive[held_out].mean() - positive.mean()) < 0.1
    assert np.array_equal(held_out, split_by_repository(names, positive, 0.1, seed))


def test_one_giant_repository_stays_in_training():
    names, positive = make()
    names, positive = names + ["giant"] * 3000, np.concatenate([positive, np.arange(3000) % 2 == 0])
    assert not split_by_repository(names, positive, 0.1, 0)[-3000:].any()


@pytest.mark.parametrize(
    ("names", "positive"),
    [(["a"] * 6, [1, 1, 1, 0, 0, 0]), (["a", "a", "a", "b", "c"], [1, 1, 1, 0, 0]), (["a", "b", "c"], [1, 1, 1]), (["a", "b", "c"], [1, 0, 0])],
)
def test_files_that_cannot_be_split_are_refused_with_their_counts(names, positive):
    with pytest.raises(SnowError, match=r"cannot be split by repository.*positives from"):
        split_by_repository(names, np.array(positive, dtype=bool), 0.1, 0)


def test_every_source_says_what_it_stands_for(settings):
    kinds = [{"kind": "repositories", "globs": ["*"], "count": 1}, {"kind": "heuristic", "count": 1}, {"kind": "functions", "count": 1}]
    assert all("stands in for the paper's" in stands_for(source) for source in settings(positives=kinds).positives)
    assert "people labelled high" in stands_for(settings(positives=[{"kind": "judged", "path": "x.csv", "count": 1}]).positives[0])
