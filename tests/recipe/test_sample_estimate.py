"""An estimate from a share of the sources, beside what the whole comes to."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build
from megatron_snow.corpus.portion import draw
from megatron_snow.corpus.settings import CorpusSettings, FolderSource
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.recipe.drive import open_road
from megatron_snow.recipe.sample_estimate import _scaled, _total, annotation_of_share, estimate, render_estimate
from tests.corpus.test_build import code

NO_POSITIVES = "annotate.positives=[{kind: repositories, globs: [none/*], count: 20}]"
TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"


def rows(folder: Path, count: int) -> Path:
    """Files of 3 to 40 functions each, one in three of them unusable, over several .jsonl."""
    chance = random.Random(5)
    folder.mkdir()
    for number in range(4):
        lines = []
        for i in range(number, count, 4):
            content = "a\0b" if chance.random() < 1 / 3 else code(f"n{i}", chance.randint(3, 40))
            lines.append(json.dumps({"content": content, "path": f"m{i}.py", "repository_name": f"o/r{i % 50}", "license": "MIT"}) + "\n")
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return folder


def test_the_whole_lies_within_the_interval(tmp_path: Path) -> None:
    tree = yaml.safe_load(TINY.read_text())
    tree["corpus"] |= {"sources": [{"kind": "folder", "name": "rows", "path": str(rows(tmp_path / "rows", 1500))}], "workers": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    recipe, road = open_road(tmp_path / "recipe.yaml", [NO_POSITIVES, "tokenizer.train.vocabulary=280"], tmp_path / "out")
    found = estimate(recipe, road, 0.2)
    (tmp_path / "whole").mkdir()
    whole = build(recipe.corpus, recipe.seed, tmp_path / "whole")
    documents, size = whole["documents"] + whole["heldout_documents"], whole["bytes"] + whole["heldout_bytes"]
    assert found["units"] == {"drawn": 300, "of": 1500}
    for name, truth in (("documents", documents), ("bytes", size)):
        one = found["corpus"][name]
        assert one["low"] <= truth <= one["high"] and one["low"] < one["amount"] < one["high"]
        assert abs(one["amount"] / truth - 1) < 0.2
    assert found["tokenize"]["tokens"]["amount"] > 0 and found["corpus"]["seconds"] > 0
    assert any("annotate was not estimated" in note for note in found["notes"])  # no such repository: said, not passed over
    assert "300 of 1,500" in render_estimate(found)
    assert not (tmp_path / "out").exists()


def test_annotate_is_estimated_from_its_share_of_the_labels(tmp_path: Path) -> None:
    """Ann-Edu's way: a file of labels beside the corpus, of which a fifth is embedded for a fifth of the sources."""
    tree = yaml.safe_load(TINY.read_text())
    tree["corpus"] |= {"sources": [{"kind": "folder", "name": "rows", "path": str(rows(tmp_path / "rows", 1200))}], "workers": 1}
    labels = [{"text": code(f"l{i}", 3 + i % 20), "repository": f"o/l{i % 40}", "language": "Python", "label": i % 6} for i in range(300)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    del tree["annotate"]["positives"], tree["annotate"]["negatives"]
    tree["annotate"]["labels"] = {"path": str(tmp_path / "labels.jsonl"), "count": 400_000, "repository": "repository", "language": "language"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    recipe, road = open_road(tmp_path / "recipe.yaml", ["tokenizer.train.vocabulary=280"], tmp_path / "out")
    found = estimate(recipe, road, 0.2)
    assert found["annotate"]["seconds"] > 0 and not any("annotate was not" in note for note in found["notes"])
    assert "  annotate  " in render_estimate(found)
    labels_of_share = annotation_of_share(recipe.annotate, 0.2).labels
    assert labels_of_share is not None and labels_of_share.count == 60  # of the 300 there are, not of the 400,000 asked for


def test_every_number_of_the_annotation_is_scaled(tmp_path: Path) -> None:
    """What a sample asks for in whole takes its whole time, and is then multiplied."""
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n' * 5_000)
    settings = AnnotateSettings.model_validate(
        {
            "positives": [
                {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "count": 220_000},
                {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "count": 3_000},
                {"kind": "heuristic", "count": 80_000},
            ],
            "negatives": 300_000, "hard_negatives": {"rounds": 2, "pool": 100_000, "add": 15_000}, "max_documents": 70_000,
            "repetition": {"horizon": 50_000_000, "times": 4},
        }
    )  # fmt: skip
    found = annotation_of_share(settings, 0.01)
    assert [one.count for one in found.positives] == [50, 30, 800]
    assert found.hard_negatives is not None and (found.hard_negatives.rounds, found.hard_negatives.pool, found.hard_negatives.add) == (2, 1_000, 150)
    assert (found.negatives, found.max_documents, found.budget) == (3_000, 700, 125_000)
    assert annotation_of_share(AnnotateSettings(tokens=12_500_000_000, positives=settings.positives), 0.01).budget == 125_000_000
    judged = AnnotateSettings.model_validate({"positives": [{"kind": "judged", "path": "labels.csv", "count": 10}]})
    with pytest.raises(SnowError, match=r"annotate.positives\[0\] are files that people judged"):
        annotation_of_share(judged, 0.01)


def test_a_share_draws_each_unit_as_likely_as_any_other(tmp_path: Path) -> None:
    settings = CorpusSettings(sources=(FolderSource(name="rows", path=rows(tmp_path / "rows", 800)),))
    drawn: list[tuple[str, int]] = []
    for seed in range(20):
        portion = draw(settings, seed, 0.01, tmp_path / f"l{seed}", tmp_path / f"s{seed}")
        assert (portion.units, portion.of) == (200, 800)
        for line in (tmp_path / f"s{seed}/listing/00000.jsonl").read_text().splitlines():
            item = json.loads(line)
            drawn += [(item["location"], row) for row in item["rows"]]
    times = [drawn.count(unit) for unit in sorted(set(drawn))]
    assert len(times) > 780 and max(times) <= 14  # each of 800 is drawn 5 times in 20 on average (binomial, 1 in 4)


def test_the_same_sources_elsewhere_give_the_same_share(tmp_path: Path) -> None:
    drawn = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        settings = CorpusSettings(sources=(FolderSource(name="rows", path=rows(tmp_path / place / "rows", 800)),))
        draw(settings, 3, 0.01, tmp_path / place / "listing", tmp_path / place / "stages")
        items = [json.loads(line) for line in (tmp_path / place / "stages/listing/00000.jsonl").read_text().splitlines()]
        drawn.append([(Path(item["location"]).name, item["rows"]) for item in items])
    assert drawn[0] == drawn[1] and sum(len(chosen) for _, chosen in drawn[0]) == 200


@pytest.mark.parametrize(("unevenness", "least", "most"), [(0.5, 0.935, 0.965), (1, 0.915, 0.955)])
def test_how_often_the_interval_holds_the_truth(unevenness: float, least: float, most: float) -> None:
    """Of 2,000 draws of a fifth; 95 % is asked for, +-1.5 % is the chance of 2,000. Of very uneven sizes it holds a little less often."""
    chance = random.Random(11)
    population = [0 if chance.random() < 1 / 3 else int(chance.lognormvariate(7, unevenness)) for _ in range(1500)]
    truth, held = sum(population), 0
    for _ in range(2_000):
        one = _total([value for value in chance.sample(population, 300) if value], units=300, of=1500)
        held += one["low"] <= truth <= one["high"]
    assert least < held / 2_000 < most


def test_totals_and_times_by_hand() -> None:
    one = _total([2, 4], units=4, of=100)  # values 2, 4, 0, 0: mean 1.5, variance 11/3
    assert one["amount"] == 150 and one["high"] - one["amount"] == pytest.approx(1.96 * 100 * (11 / 3 / 4 * 0.96) ** 0.5)
    assert one["low"] == 6  # never less than was seen
    assert _total([3, 3], units=2, of=2) == {"amount": 6, "low": 6, "high": 6}
    assert _scaled(12, 2, 110, 10, 1000) == pytest.approx(1 + 0.1 * 1000)  # 0.1 s each, and 1 s whatever is done
    assert _scaled(2, 3, 110, 10, 1100) == 20


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_that_is_none(tmp_path: Path, share: float) -> None:
    recipe, road = open_road(TINY, [], tmp_path)
    with pytest.raises(SnowError, match="a share of the sources between 0 and 1"):
        estimate(recipe, road, share)
