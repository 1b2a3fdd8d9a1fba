import numpy as np
import orjson
import pytest

from megatron_snow.artifacts.errors import SnowError
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
