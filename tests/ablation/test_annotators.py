"""Annotators of arms by one measure: the same solutions against the same files, kept, and only where an annotator had a hand in what is trained on."""

import shutil
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from megatron_snow.ablation.annotators import add, items
from megatron_snow.ablation.arms import open_study
from megatron_snow.ablation.metrics import RunMetrics, assemble
from megatron_snow.ablation.statistics import difference, estimate
from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.publish import Building
from megatron_snow.quality.head import LinearHead
from megatron_snow.quality.heads import SHARED, Heads
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.recipe.stage import Road, Stage
from tests.ablation.small import write
from tests.quality.conftest import collect, random_encoder

ARMS = {
    "random": {"set": {"train.phases.continued.blend": {"standard": 1}}},
    "upper": {"set": {"train.phases.continued.blend": {"high_quality": 1}}},
    "lower": {"set": {"train.phases.continued.blend": {"high_quality": 1}}},
}
SET = {"train.phases.general.tokens": "50 % of $tokens", "train.phases.continued.tokens": "50 % of $tokens"}
METRIC = "annotator/humaneval"


def _corpus(folder, documents):
    building = Building(folder, "corpus", 1, {}, 0, {}).open()
    write_documents(building.work / "standard", documents)
    write_documents(building.work / "heldout", documents)
    building.publish()


def _annotator(folder, encoder, sign):
    """An annotate artefact as far as a scorer reads it; the other ``sign`` ranks the other way round."""
    settings = AnnotateSettings(encoder=str(encoder), pooling="mean", section=32, workers=1, tokens=1000)
    building = Building(folder, "annotate", 1, settings.identity(), 0, {}).open()
    weight = sign * np.random.default_rng(1).normal(size=64).astype(np.float32) / 10
    Heads({SHARED: LinearHead(weight, 0.0)}).save(building.work / "head.safetensors", {})
    building.publish()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder, its units, and their roads: a corpus, and an annotator for every arm, the random one included."""
    folder = tmp_path_factory.mktemp("annotators")
    encoder = random_encoder(tmp_path_factory.mktemp("encoder"))
    _corpus(folder / "corpus", collect())
    arms = {name: {"phases": ["general", "continued"], "set": {**SET, **arm["set"]}} for name, arm in ARMS.items()}
    units = open_study(write(folder, arms=arms, baseline="random")).units
    roads = {}
    for unit in units:
        if not (folder / unit.arm).exists():
            _annotator(folder / unit.arm, encoder, -1 if unit.arm == "lower" else 1)
        stages = [Stage(name, name, at, 1, {}, lambda inputs, work: {}) for name, at in (("corpus", "corpus"), ("annotate", unit.arm))]
        roads[unit.arm, unit.seed] = Road(stages, folder, 7)
    return folder, units, roads, encoder


def _measured(study, roads=None):
    folder, units, every, _ = study
    roads = every if roads is None else roads
    runs = {key: RunMetrics() for key in roads}
    assert not add(runs, units, roads, folder / "out")
    return assemble(runs)


def test_arms_are_judged_on_the_same_files_and_no_annotator_means_no_number(study):
    found = _measured(study)[METRIC]
    assert found.keys() == {"upper", "lower"}
    upper, lower = found["upper"], found["lower"]
    assert upper.seeds == (1, 2) and upper.items == lower.items
    assert sum(item.startswith("humaneval/") for item in upper.items) == 164 and "unseen python/cpython/json" in upper.items
    assert 0 < upper.by_seed[0] < 1 and upper.by_seed[0] != pytest.approx(0.5)
    assert upper.by_seed[0] == upper.by_seed[1] == pytest.approx(1 - lower.by_seed[0])
    apart = difference(upper, lower, 500)
    assert apart is not None and apart.value == pytest.approx(2 * upper.by_seed[0] - 1)
    assert apart.error_items == pytest.approx(2 * estimate(upper, 500).error_items)  # paired: the two move together


def test_what_was_scored_is_kept(study):
    folder, _, _, encoder = study
    before = _measured(study)
    kept = sorted((folder / "out" / "annotators").iterdir())
    assert len(kept) == 2
    shutil.move(encoder, encoder.with_name("away"))
    try:
        again = _measured(study)
    finally:
        shutil.move(encoder.with_name("away"), encoder)
    assert again[METRIC]["upper"].by_seed == before[METRIC]["upper"].by_seed
    kept[0].write_bytes(b"{")
    assert _measured(study)[METRIC]["upper"].by_seed == before[METRIC]["upper"].by_seed


def test_arms_on_other_corpora_give_numbers_alone(study):
    folder, _, roads, _ = study
    shutil.copytree(folder / "corpus", folder / "other", dirs_exist_ok=True)
    others = dict(roads)
    for key, road in roads.items():
        if key[1] == 2:
            others[key] = Road([Stage(one.name, one.arrow, one.folder.replace("corpus", "other"), 1, {}, one.run) for one in road.stages.values()], folder, 7)
    found, same = _measured(study, others)[METRIC], _measured(study)[METRIC]
    assert found["upper"].items == ("",) and found["upper"].by_seed == pytest.approx(same["upper"].by_seed)


def test_too_few_files_are_said_and_nothing_else_is_lost(study, tmp_path):
    _, units, roads, _ = study
    _corpus(tmp_path / "corpus", [document for document in collect() if document["language"] == "Python"][:5])
    road = roads["upper", 1]
    shutil.copytree(road.folder("annotate"), tmp_path / "upper")
    runs = {("upper", 1): RunMetrics()}
    (why,) = add(runs, units, {("upper", 1): Road(list(road.stages.values()), tmp_path, 7)}, tmp_path)
    assert why.startswith("No ROC-AUC of the annotator of upper/seed-1: ") and "has 5 Python files, 20 are needed" in why
    assert not runs["upper", 1].items


def test_items_are_the_auc_and_its_variance_is_delongs():
    random = np.random.default_rng(0)
    solutions, files = random.integers(3, 12, 60) / 10, random.integers(0, 10, 90) / 10  # with ties
    amounts = np.array([amount for _, amount in items("", solutions, files, [str(number) for number in range(90)])])
    auc = roc_auc_score([1] * 60 + [0] * 90, np.concatenate([solutions, files]))
    assert amounts.mean() == pytest.approx(auc)
    wins = (solutions[:, None] > files) + 0.5 * (solutions[:, None] == files)
    delong = wins.mean(1).var() / 60 + wins.mean(0).var() / 90
    assert amounts.var() / len(amounts) == pytest.approx(delong, abs=sys.float_info.epsilon)
