"""The whole road on a tiny slice of real code, then again, then under TP2 x PP2: a real encoder, a real served model, real training."""

import json
import shutil

import pytest
import yaml

from tests.road.conftest import FOLDERS, PHASES, RECIPE, run_snow, snow


def _fingerprints(out):
    manifests = {path.parent.relative_to(out).as_posix(): json.loads(path.read_text()) for path in out.rglob("manifest.json")}
    return {name: {file: entry["sha256"] for file, entry in manifest["files"].items()} for name, manifest in manifests.items()}


def test_every_arrow_leaves_a_whole_artefact(road):
    out, _ = road
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == FOLDERS
    assert len(list(out.rglob("manifest.json"))) == 6 + 3 * len(PHASES)
    assert not list(out.rglob("*.building"))


def test_the_run_ends_with_model_report_and_completions(road):
    out, result = road
    assert f"Model:  {out / '7-convert' / 'enhanced'}" in result.stdout
    assert f"Report: {out / '9-report' / 'report.html'}" in result.stdout
    assert result.stdout.count("  | ") >= 2
    page = (out / "9-report" / "report.html").read_text()
    assert all(phase in page for phase in PHASES)


def test_the_model_loads_in_plain_transformers_and_generates(road):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = road[0] / "7-convert" / "enhanced"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer("def add(a, b):", return_tensors="pt")
    assert model.generate(**batch, max_new_tokens=4, do_sample=False).shape[1] > batch["input_ids"].shape[1]


def test_heldout_repositories_are_in_no_tier(road):
    from megatron_snow.artifacts.documents import read_documents

    out = road[0]
    heldout = {document["repository"] for document in read_documents(out / "1-corpus" / "heldout")}
    assert heldout
    for tier in (out / "1-corpus" / "standard", out / "3-annotate" / "high_quality"):
        assert heldout.isdisjoint(document["repository"] for document in read_documents(tier))


def test_the_indexed_tiers_open_in_megatron_core(road):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    for tier in ("standard", "high_quality", "synthetic", "heldout"):
        dataset = IndexedDataset(str(road[0] / "5-tokenize" / tier / "00000"))
        assert len(dataset) > 0
        assert dataset[0][-1] == 0  # <|endoftext|>


def test_training_lowers_the_loss_and_evaluation_saw_every_phase(road):
    out = road[0]
    losses = [json.loads(line)["loss"] for line in (out / "6-train" / "general" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    for phase in PHASES:
        results = json.loads((out / "8-evaluate" / phase / "results.json").read_text())
        assert results["bits_per_byte"]["heldout"]["all"] > 0
        assert results["humaneval"]["problems"] == 164


def test_a_finished_road_is_skipped_in_seconds(road):
    out, _ = road
    before = _fingerprints(out)
    result = snow("run", RECIPE, "--out", out)
    assert result.stderr.count("done before") == 6 + 3 * len(PHASES)
    assert _fingerprints(out) == before


def test_tensor_two_by_pipeline_two_goes_the_same_way(road, tmp_path):
    """Four processes: the phases after one another, conversion from the sharded checkpoint, losses as the single process's."""
    out, _ = road
    other = tmp_path / "out"
    for name in FOLDERS[:5]:
        shutil.copytree(out / name, other / name)
    layout = ("--set", "layout.tensor=2", "--set", "layout.pipeline=2", "--out", other)
    snow("train", RECIPE, *layout)
    snow("convert", RECIPE, "--phase", "enhanced", *layout)
    for phase in PHASES:
        single, sharded = (
            [json.loads(line)["loss"] for line in (folder / "6-train" / phase / "metrics.jsonl").read_text().splitlines()] for folder in (out, other)
        )
        assert sharded == pytest.approx(single, rel=1e-5)
    assert (other / "7-convert" / "enhanced" / "model.safetensors").stat().st_size == (out / "7-convert" / "enhanced" / "model.safetensors").stat().st_size


def _losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_road_starts_from_a_hugging_face_model(road, tmp_path):
    """The model the road ended with, as if it came from elsewhere: shape and weights are its own, the loss goes on where it stood."""
    out, other = road[0], tmp_path / "out"
    for name in FOLDERS[:5]:
        shutil.copytree(out / name, other / name)
    base = out / "7-convert" / "general"
    given = ("--set", f"train.base.hugging_face={base}", "--set", "model=base", "--set", "train.phases.general.tokens=3K", "--out", other)
    result = snow("train", RECIPE, "--phase", "general", *given)
    assert result.stderr.index("[base] finished") < result.stderr.index("[train general] missing")
    assert _losses(other / "6-train" / "general")[0] < _losses(out / "6-train" / "general")[0] - 0.3
    assert "[base] done before" in snow("base", RECIPE, *given).stderr


def test_a_recipe_begins_with_its_second_phase(road, tmp_path):
    """From the first phase's checkpoint of another run: loss for loss what came after it there."""
    out, other = road[0], tmp_path / "out"
    for name in FOLDERS[:5]:
        shutil.copytree(out / name, other / name)
    tree = yaml.safe_load(RECIPE.read_text())
    del tree["train"]["phases"]["general"], tree["train"]["phases"]["enhanced"]
    tree["train"]["base"] = {"checkpoint": str(out / "6-train" / "general")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    snow("train", recipe, "--out", other)
    assert _losses(other / "6-train" / "continued") == _losses(out / "6-train" / "continued")


def test_synthesis_without_a_server_names_the_endpoint(road, tmp_path):
    out, _ = road
    for name in FOLDERS[:3]:
        shutil.copytree(out / name, tmp_path / name)
    unreachable = ("--set", "synthesize.local=null", "--set", "synthesize.endpoints=['http://127.0.0.1:9/v1']", "--set", "synthesize.attempts=1")
    result = run_snow("synthesize", RECIPE, "--out", tmp_path, *unreachable)
    assert result.returncode == 2, result.stderr
    assert "http://127.0.0.1:9/v1" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "4-synthesize").exists()
