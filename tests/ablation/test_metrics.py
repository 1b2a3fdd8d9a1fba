"""Reading a run's artefacts: texts and problems as items, samples of a problem together, older artefacts by their numbers alone."""

import json

import numpy as np
import pytest

from megatron_snow.ablation.metrics import RunMetrics, assemble, lower_is_better, read_run, unit
from megatron_snow.ablation.results import slug
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.recipe.stage import Road, Stage


def _road(out, bits=(), verdicts=(), results=None, validation=None):
    stages = [Stage(name, name.partition(" ")[0], name.replace(" ", "-"), 1, {}, lambda inputs, work: {}) for name in ("train continued", "evaluate continued")]
    for stage in stages:
        (out / stage.folder).mkdir(parents=True)
    (out / "train-continued" / "summary.json").write_text(json.dumps({"validation": validation or {}}))
    folder = out / "evaluate-continued"
    (folder / "results.json").write_text(json.dumps(results or {"bits_per_byte": {}}))
    if bits:
        (folder / "bits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bits))
    (folder / "humaneval+.jsonl").write_text("".join(json.dumps(row) + "\n" for row in verdicts))
    return Road(stages, out, 0)


def _bits(name, language, item, bits, size):
    return {"set": name, "language": language, "id": item, "bits": bits, "bytes": size}


def test_texts_are_items_and_languages_are_told_apart_where_there_are_several(tmp_path):
    rows = [_bits("heldout", "C", "C/0", 30, 10), _bits("heldout", "Python", "Python/0", 20, 10), _bits("humaneval+", "Python", "HumanEval/0", 8, 4)]
    found = read_run(_road(tmp_path, rows, validation={"heldout": 3.0, "high_quality": 2.5, "synthetic": None})).items
    assert found["bits/heldout"] == {"C/0": (30, 10), "Python/0": (20, 10)}
    assert found["bits/heldout/C"] == {"C/0": (30, 10)}
    assert "bits/humaneval+/Python" not in found and found["bits/humaneval+"] == {"HumanEval/0": (8, 4)}
    assert found["validation/gap"] == {"": (0.5, 1)}
    assert "validation/synthetic" not in found


def test_samples_of_a_problem_count_together(tmp_path):
    verdicts = [{"task_id": "a", "passed": True}, {"task_id": "a", "passed": False}, {"task_id": "b", "passed": False}]
    assert read_run(_road(tmp_path, verdicts=verdicts)).items["pass@1/humaneval+"] == {"a": (1, 2), "b": (0, 1)}


def test_an_artefact_without_rows_gives_its_numbers(tmp_path):
    found = read_run(_road(tmp_path, results={"bits_per_byte": {"heldout": {"all": 2.0, "C": 2.5}, "humaneval_solutions": 1.5}})).items
    assert found["bits/heldout"] == {"": (2.0, 1.0)} and found["bits/heldout/C"] == {"": (2.5, 1.0)} and found["bits/humaneval_solutions"] == {"": (1.5, 1.0)}


def test_damage_is_named(tmp_path):
    road = _road(tmp_path)
    (tmp_path / "evaluate-continued" / "bits.jsonl").write_text("{}\n{")
    with pytest.raises(SnowError, match=r"bits\.jsonl, line 2 is damaged"):
        read_run(road)


def _run(**metrics):
    found = RunMetrics()
    for metric, items in metrics.items():
        for item, (amount, size) in items.items():
            found.add(metric, item, amount, size)
    return found


def test_arms_are_assembled_over_the_items_all_their_seeds_have():
    runs = {
        ("a", 1): _run(bits={"x": (1, 2), "y": (3, 4)}, zero={"x": (0, 1)}),
        ("a", 2): _run(bits={"y": (5, 4), "x": (2, 2), "z": (9, 9)}, zero={"x": (0, 1)}),
        ("b", 1): _run(other={"x": (1, 1)}),
    }
    found = assemble(runs)
    assert set(found) == {"bits", "other"}  # what is 0 in every run says nothing
    assert found["bits"]["a"].items == ("x", "y") and found["bits"].keys() == {"a"}
    np.testing.assert_array_equal(found["bits"]["a"].amounts, [[1, 3], [2, 5]])
    assert found["bits"]["a"].by_seed == pytest.approx([4 / 6, 7 / 6])


def test_what_a_metrics_name_says():
    assert lower_is_better("bits/heldout") and lower_is_better("validation/gap") and not lower_is_better("pass@1/x") and not lower_is_better("annotator/x")
    assert {unit(name) for name in ("bits/a", "validation/a", "pass@1/a", "annotator/a")} == {"bits per byte", "nats a token", "share solved", "ROC-AUC"}


def test_every_metric_has_a_plot_of_its_own():
    names = ["bits/heldout/C", "bits/heldout/C++", "bits/heldout/C#", "bits/heldout", "bits/humaneval", "bits/humaneval+"]
    assert len({slug(name) for name in names}) == len(names)
