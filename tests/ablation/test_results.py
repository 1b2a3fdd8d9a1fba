"""Results of a study whose artefacts are stand-ins: what the page says of annotators and of tokens really trained on."""

import json

import numpy as np
import pytest

from megatron_snow.ablation.arms import open_study
from megatron_snow.ablation.results import write_results
from megatron_snow.ablation.store import Roads
from megatron_snow.artifacts.documents import write_documents
from megatron_snow.quality.head import LinearHead
from megatron_snow.quality.heads import SHARED, Heads
from tests.ablation.small import write
from tests.quality.conftest import collect, random_encoder

SET = {"train.phases.general.tokens": "50 % of $tokens", "train.phases.continued.tokens": "50 % of $tokens", "train.validation.tiers": ["high_quality"]}
ARMS = {
    "random": {"phases": ["general", "continued"], "set": {**SET, "train.phases.continued.blend": {"standard": 1}}},
    "chosen": {"phases": ["general", "continued"], "set": {**SET, "train.phases.continued.blend": {"high_quality": 1}}},
}


def _content(stage, work, documents):
    """What results read of a stage's artefact; the counts."""
    match stage.arrow:
        case "corpus":
            for tier in ("standard", "heldout"):
                write_documents(work / tier, documents)
        case "annotate":
            write_documents(work / "high_quality", documents)
            Heads({SHARED: LinearHead(np.random.default_rng(1).normal(size=64).astype(np.float32), 0.0)}).save(work / "head.safetensors", {})
        case "train":
            (work / "summary.json").write_text(json.dumps({"validation": {"heldout": 3.0}}))
            return {"tokens": 4096 - (stage.name == "train continued" and stage.settings["train"]["seed"] == 2)}
        case "evaluate":
            (work / "results.json").write_text(json.dumps({"bits_per_byte": {"heldout": {"all": 2.0}}}))
    return {}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder, documents = tmp_path_factory.mktemp("results"), collect()
    encoder = random_encoder(tmp_path_factory.mktemp("encoder"))
    opened = open_study(
        write(folder, arms=ARMS, baseline="random", metrics=["validation", "annotator"]), overrides=[f"annotate.encoder={encoder}", "annotate.section=32"]
    )
    roads = Roads(folder / "out")
    for road in (roads.road(unit.recipe) for unit in opened.units):
        for stage in road.stages.values():
            if road.status(stage.name).state == "done":
                continue
            building = road.building(stage).open()
            building.counts = _content(stage, building.work, documents)
            for part in stage.parts:
                (building.work / part).mkdir(exist_ok=True)
                if not any((building.work / part).iterdir()):
                    (building.work / part / "content").write_text(stage.folder)
            (building.work / "content").write_text(stage.folder)
            building.publish()
    page = write_results(opened, roads)
    assert page is not None
    return json.loads(page.with_name("results.json").read_text()), page.read_text()


def test_the_arm_that_nobody_chose_for_has_no_annotator(results):
    tree, page = results
    metric = tree["metrics"]["annotator/humaneval"]
    assert metric["arms"].keys() == {"chosen"} and metric["unit"] == "ROC-AUC" and metric["comparisons"] == []
    auc = metric["arms"]["chosen"]
    assert 0 < auc["low"] < auc["value"] < auc["high"] < 1 and auc["seeds"] == 2 and auc["error_seeds"] == 0
    assert "An arm that no annotator chose for has none." in page and "figure 2" in metric["note"]
    assert tree["metrics"]["validation/heldout"]["note"] == "" and tree["metrics"]["validation/heldout"]["arms"].keys() == {"random", "chosen"}


def test_runs_that_trained_on_other_tokens_than_they_should_are_named(results):
    tree, page = results
    assert sorted(note.partition(":")[0] for note in tree["notes"]) == [
        f"{arm}/seed-2 was trained on 8,191 tokens, not on the scale's 8,192" for arm in ("chosen", "random")
    ]
    assert "**chosen/seed-2 was trained on 8,191 tokens" in page
