"""A real study from end to end: two arms, two seeds, killed in the middle of a training, gone on with two at a time."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.ablation.arms import open_study
from megatron_snow.ablation.plan import render
from megatron_snow.ablation.results import write_results
from megatron_snow.ablation.store import Roads
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.cli.commands import app
from tests.ablation.small import STUDY, write

ARMS: dict[str, Any] = {
    "alpha": {"title": "a low rate", "phases": ["general"], "set": {"train.phases.general.learning_rate.peak": 2e-4}},
    "beta": {"title": "a high rate", "phases": ["general"], "set": {"train.phases.general.learning_rate.peak": "$peak"}},
}


def _snow(*arguments: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "megatron_snow", "ablate", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, start_new_session=True,
    )  # fmt: skip


def _losses(arm: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (arm / "6-train" / "general" / "metrics.jsonl").read_text().splitlines()]


def _manifests(out: Path) -> dict[str, bytes]:
    return {str(path.parent.relative_to(out)): path.read_bytes() for path in (out / "store").rglob("manifest.json") if ".building" not in str(path)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The finished study: its file, its folder, what was done when it was killed, what the second run said."""
    folder = tmp_path_factory.mktemp("study")
    scales = {"cpu": {**STUDY["scales"]["cpu"], "set": {**STUDY["scales"]["cpu"]["set"], "train.phases.general.tokens": "100 % of $tokens"}}}
    file, out = write(folder, arms=ARMS, scales=scales), folder / "out"
    process = _snow(file, "--out", out)
    end = time.monotonic() + 600
    while not ((out / "arms" / "alpha" / "seed-1" / "8-evaluate" / "general").exists() and list(out.glob("store/train/*.building/metrics.jsonl"))):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = _manifests(out)
    process = _snow(file, "--out", out, "--jobs", 2)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    return file, out, before, said


def test_a_killed_study_goes_on_and_redoes_nothing(study):
    _, out, before, _ = study
    after = _manifests(out)
    assert len(before) < len(after) == 3 + 3 * 4  # corpus, tokenizer, tokens once; training, conversion, evaluation a run
    assert {name: after[name] for name in before} == before
    assert {len(list(out.glob(f"store/{arrow}/*/manifest.json"))) for arrow in ("corpus", "tokenizer", "tokenize")} == {1}


def test_progress_counts_artefacts_and_runs_of_all_arms(study):
    said = study[3]
    assert "study: 15/15 artefacts, 4/4 runs, all done" in said
    assert "ETA" in said and "beta/seed-2 starts" in said


def test_seeds_train_different_models_and_arms_differ(study):
    out = study[1]
    losses = {(arm, seed): _losses(out / "arms" / arm / f"seed-{seed}") for arm in ARMS for seed in (1, 2)}
    assert {len(rows) for rows in losses.values()} == {8}
    assert len({rows[0] for rows in losses.values()}) == 2  # the first step knows the seed, not yet the rate
    assert len({rows[-1] for rows in losses.values()}) == 4


def test_an_arms_folder_is_a_road_of_its_own(study):
    _, out, _, _ = study
    arm = out / "arms" / "beta" / "seed-2"
    assert sorted(path.name for path in arm.iterdir()) == ["1-corpus", "2-tokenizer", "5-tokenize", "6-train", "7-convert", "8-evaluate"]
    assert json.loads((arm / "7-convert" / "general" / "config.json").read_text())["hidden_size"] == 64
    assert (arm / "1-corpus").resolve() == (out / "arms" / "alpha" / "seed-1" / "1-corpus").resolve()


def test_the_results_are_a_table_numbers_and_plots(study):
    _, out, _, said = study
    tree = json.loads((out / "results" / "results.json").read_text())
    assert (tree["runs"]["missing"], len(tree["runs"]["finished"])) == ([], 4)
    metric = tree["metrics"]["validation/heldout"]
    one = metric["comparisons"][0]
    arms = metric["arms"]
    assert one["value"] == pytest.approx(arms["beta"]["value"] - arms["alpha"]["value"], abs=1e-4)
    assert one["low"] <= one["value"] <= one["high"] and one["verdict"] in ("better", "worse", "no difference beyond noise")
    page = (out / "results" / "results.md").read_text()
    assert page in said and "does a second phase help?" in page
    found = json.loads((out / "results" / "signatures.json").read_text())
    assert found["training"].keys() == {f"{arm}/seed-{seed}" for arm in ARMS for seed in (1, 2)}
    assert len(found["tiers"]) == 1 and found["tiers"][0]["signatures"]["diversity"]["files"] > 10
    assert "- little diversity: effective repositories" in page  # one repository, the standard library
    rows = list(csv.DictReader((out / "results" / "results.csv").open()))
    assert {row["kind"] for row in rows} == {"arm", "difference"}
    for metric in tree["metrics"]:
        name = page.split(f"![{metric}](", 1)[1].split(")", 1)[0]
        assert "alpha" in "".join(ElementTree.parse(out / "results" / name).getroot().itertext())


def test_a_finished_study_plans_nothing_and_its_results_can_be_made_again(study):
    file, out, _, _ = study
    opened, roads = open_study(file), Roads(out)
    assert "everything is done" in render(opened, opened.units, roads)
    before = (out / "results" / "results.json").read_bytes()
    write_results(opened, roads)
    assert (out / "results" / "results.json").read_bytes() == before


def test_an_arm_more_leaves_what_is_there(study, tmp_path):
    file, out, _, _ = study
    gamma = {"phases": ["general"], "set": {"train.phases.general.learning_rate.peak": 1e-3}}
    tree = {**STUDY, "arms": {**ARMS, "gamma": gamma, "beta_again": ARMS["beta"]}, "scales": open_study(file).study.model_dump(mode="json")["scales"]}
    opened = open_study(write(tmp_path, **tree))
    text = render(opened, opened.units, Roads(out))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  train ")}
    assert rows == {"train": ["8", "6", "2", "4"]}  # in eight roads, six to make, two of them shared by beta and its twin, four done
    assert "to do, one at a time" in text and "(measured)" in text
    results = write_results(opened, Roads(out))
    assert results is not None and "Not finished: gamma/seed-1, gamma/seed-2." in results.read_text()
    write_results(open_study(file), Roads(out))


def test_a_second_study_on_the_same_store_makes_only_what_is_new(study, tmp_path):
    first, finished, _, _ = study
    out = tmp_path / "finished"
    shutil.copytree(finished / "store", out / "store")  # what is made here must not be there for the tests of the first study
    before = _manifests(out)
    gamma = {"phases": ["general"], "set": {"train.phases.general.learning_rate.peak": 1e-3}}
    changes = {"name": "other", "seeds": [1], "arms": {"again": ARMS["beta"], "gamma": gamma}, "baseline": "again"}
    file = write(tmp_path, **changes, scales=open_study(first).study.model_dump(mode="json")["scales"])
    opened = open_study(file)
    assert f", artefacts in {out / 'store'}" in render(opened, opened.units, Roads(tmp_path / "out", out / "store"))
    process = _snow(file, "--out", tmp_path / "out", "--store", out / "store", "--jobs", 2)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    after = _manifests(out)
    assert {name: after[name] for name in before} == before
    assert sorted(name.split("/")[1] for name in after.keys() - before.keys()) == ["convert", "evaluate", "train"]  # gamma's
    assert not (tmp_path / "out" / "store").exists()
    model, again = Path("seed-1") / "6-train" / "general", (tmp_path / "out" / "arms" / "again").resolve()
    assert (again / model).resolve() == out / "store" / "train" / (finished / "arms" / "beta" / model).resolve().name
    results = json.loads((tmp_path / "out" / "results" / "results.json").read_text())
    assert (results["runs"]["missing"], len(results["runs"]["finished"])) == ([], 2)


def test_a_damaged_result_is_named(study, tmp_path):
    file, out, _, _ = study
    path = (out / "arms" / "alpha" / "seed-1" / "8-evaluate" / "general" / "bits.jsonl").resolve()
    whole = path.read_text()
    path.write_text(whole[:40])
    try:
        with pytest.raises(SnowError, match=r"bits\.jsonl has 40 bytes, its manifest says .* cut short or edited; put it back as it was, or delete"):
            write_results(open_study(file), Roads(out))
    finally:
        path.write_text(whole)


def test_mistakes_on_the_command_line(tmp_path):
    file = write(tmp_path)
    for words, complaint in (
        (["--scale", "tpu"], "no scale 'tpu'"),
        (["--only", "gamma"], "no arm 'gamma'"),
        (["--seeds", "1,x"], "write numbers with commas"),
        (["--seeds", "7"], "no seed 7"),
        (["--task", "4"], "there are 4 runs, numbered from 0"),
        (["--set", "model.layers=0"], "model.layers: Input should be"),
    ):
        with pytest.raises(SnowError, match=complaint):
            app(["ablate", str(file), "--plan", *words], standalone_mode=False)


def test_the_list_numbers_the_tasks_of_an_array(tmp_path, capsys):
    app(["ablate", str(write(tmp_path)), "--list"], standalone_mode=False)
    assert capsys.readouterr().out.split("\n") == ["alpha 1", "alpha 2", "beta 1", "beta 2", ""]


def test_a_plan_as_json_is_one_object(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SNOW_OUTPUT", "json")
    app(["ablate", str(write(tmp_path)), "--plan"], standalone_mode=False)
    tree = json.loads(capsys.readouterr().out)
    assert (tree["study"], tree["tokens"], len(tree["runs"]), tree["left_out"]) == ("small", 8192, 4, {})
    assert any("to do, one at a time" in line for line in tree["plan"])


def test_an_arm_that_fails_is_named_and_the_others_are_run(tmp_path):
    """An arm whose tier would be repeated too often is refused when its training starts; results of nothing are none."""
    sets = STUDY["scales"]["cpu"]["set"] | {"corpus.sources": [{"kind": "folder", "name": "mine", "path": str(tmp_path / "nothing")}]}
    file = write(tmp_path, scales={"cpu": {**STUDY["scales"]["cpu"], "set": sets}})
    with pytest.raises(SnowError, match="does not exist"):
        app(["ablate", str(file), "--out", str(tmp_path / "out"), "--set", "evaluate.sandbox.isolation=process"], standalone_mode=False)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "0.jsonl").write_text("")
    with pytest.raises(SnowError, match=r"4 run\(s\) could not be finished.*\n  alpha/seed-1 \(corpus\): .*\n  alpha/seed-2 \(corpus\)"):
        app(["ablate", str(file), "--out", str(tmp_path / "out"), "--set", "evaluate.sandbox.isolation=process"], standalone_mode=False)
