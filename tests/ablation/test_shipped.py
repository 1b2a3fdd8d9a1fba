"""The shipped studies: every arm of every scale is a recipe, trains on the same tokens, and the plan can be shown."""

from pathlib import Path

import pytest

from megatron_snow.ablation.arms import open_study, tokens_seen
from megatron_snow.ablation.plan import render
from megatron_snow.ablation.store import Roads
from megatron_snow.quality.settings import AnnotateSettings, JudgedPositives

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "examples" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_opens_at_every_scale_and_plans(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for scale in open_study(path).study.scales:
        opened = open_study(path, scale)
        assert opened.study.name == path.stem and {"cpu", "gpu"} <= opened.study.scales.keys()
        assert {tokens_seen(unit.recipe) for unit in opened.units} == {opened.scale.tokens}
        assert len({unit.seed for unit in opened.units}) >= 3
        text = render(opened, opened.units, Roads(tmp_path / scale))
        if scale == "gpu":
            assert "not yet: corpus source the-stack: data/the-stack does not exist" in text and "of an H100" in text
            (tmp_path / "data" / "the-stack").mkdir(parents=True)
            (tmp_path / "data" / "the-stack" / "0.jsonl").write_text("{}\n")
            text = render(opened, opened.units, Roads(tmp_path / scale))
        assert all(name in text for name in opened.study.arms)
        assert "to do, one at a time: " in text
    assert not list(tmp_path.rglob("manifest.json"))


def test_arms_that_need_a_file_are_run_where_it_is_there(tmp_path, monkeypatch):
    """Left out, and said so, without them; with them recipes like the others', at both scales."""
    monkeypatch.chdir(tmp_path)
    path = ROOT / "examples" / "studies" / "annotators.yaml"
    assert open_study(path).absent.keys() == {"ann_edu", "human"}
    assert open_study(path, "gpu").absent.keys() == {"ann_edu", "ann_ins", "human"}
    for scale in ("cpu", "gpu"):
        for needed in open_study(path, scale).absent.values():
            Path(needed).parent.mkdir(parents=True, exist_ok=True)
            Path(needed).write_text("path,label\n")
    for scale in ("cpu", "gpu"):
        opened = open_study(path, scale)
        assert not opened.absent
        of = {unit.arm: unit.recipe.annotate for unit in opened.units}
        assert of["human"].positives == (JudgedPositives(kind="judged", path="data/annotator/human_labels.csv", count=of["human"].positives[0].count),)
        labels = of["ann_edu"].labels
        assert labels is not None and (tmp_path / labels.path).exists()
    ins, paper = of["ann_ins"].positives, AnnotateSettings(preset="ann_ins").positives
    assert [(one.kind, one.count, getattr(one, "least", None)) for one in ins] == [(one.kind, one.count, getattr(one, "least", None)) for one in paper]
    assert {arm: one.negatives for arm, one in of.items()} == dict.fromkeys(of, 300_000)


def test_the_issues_seven_studies_are_there():
    assert [path.stem for path in STUDIES] == ["annotators", "grouping", "phases", "repetitions", "replay", "schedules", "sizes"]


def test_what_is_equal_is_made_once(tmp_path):
    opened = open_study(ROOT / "examples" / "studies" / "phases.yaml")
    roads = Roads(tmp_path)
    made = [roads.road(unit.recipe) for unit in opened.units]
    folders = {name: {road.stages[name].folder for road in made if name in road.stages} for name in ("corpus", "synthesize", "tokenize", "train general")}
    # alpha has the standard tier's tokens only; beta's and final's first phase are one.
    assert {name: len(found) for name, found in folders.items()} == {"corpus": 1, "synthesize": 1, "tokenize": 2, "train general": 6}
    schedules = open_study(ROOT / "examples" / "studies" / "schedules.yaml")
    made = [roads.road(unit.recipe) for unit in schedules.units]
    assert len({road.stages["train general"].folder for road in made}) == 3
    assert len({road.stages["train continued"].folder for road in made}) == 9
    assert all("synthesize" not in road.stages for road in made)
    for name in ("annotators", "repetitions"):  # the arms' high-quality tiers differ, which their first phase does not read
        study = open_study(ROOT / "examples" / "studies" / f"{name}.yaml", overrides=["annotate.labels=null"])
        made = [roads.road(unit.recipe) for unit in study.units]
        assert len({road.stages["train general"].folder for road in made}) == 3
        assert len({road.stages["train continued"].folder for road in made}) == len(made)
