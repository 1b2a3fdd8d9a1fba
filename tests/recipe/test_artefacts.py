"""What lineage is told of a road: the seeds that phases were trained with, and no tier that no phase reads."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import Building
from megatron_snow.artifacts.settings import digest
from megatron_snow.cli.build_index import build_index
from megatron_snow.lineage.repository import trace_repositories
from megatron_snow.lineage.step import trace_step
from megatron_snow.recipe.artefacts import artefacts_of, training_states
from megatron_snow.recipe.drive import open_road
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.take_down import take_down_changes
from megatron_snow.training.samples import phase_samples
from tests.recipe.test_redo import TINY, stand_in

PHASE = "{blend: {standard: 1}, tokens: 2K, batch: 2, micro_batch: 2, sequence: 32, max_epochs: 50, learning_rate: {peak: 1e-3, warmup: 1 steps}}"
# One phase on the corpus's own tiers: nothing is annotated and no model writes anything.
ONE_PHASE = (
    f"train.phases={{general: {PHASE}}}",
    "train.validation.tiers=[heldout]",
)


def _word(*of: int) -> str:
    """A word that no other file has: none is another's near duplicate."""
    return "w" + digest(list(of))[:8]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An output folder with the tokens of forty files in two repositories, and the settings it was made with."""
    folder = tmp_path_factory.mktemp("one-phase")
    (folder / "rows").mkdir()
    rows = [
        {
            "content": "".join(f"def {_word(n, m)}({_word(m, n)}):\n    return {_word(n, 9 * m)}\n" for m in range(1, 9)),
            "path": f"{n}.py", "repository_name": f"o/{'ab'[n % 2]}", "detected_licenses": ["MIT"], "license_type": "permissive",
        }
        for n in range(1, 41)
    ]  # fmt: skip
    (folder / "rows" / "0.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    sets = [*ONE_PHASE, f"corpus.sources=[{{kind: folder, name: rows, path: {folder / 'rows'}}}]", "tokenizer.train.vocabulary=400"]
    _, road = open_road(TINY, sets, folder / "out")
    for name in ("corpus", "tokenizer", "tokenize"):
        road.make(name)
    return folder / "out", sets


def test_a_road_without_an_annotator_is_traced(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, sets = made
    recipe, road = open_road(TINY, sets, out)
    artefacts = artefacts_of(recipe, road)
    step = trace_step(artefacts, "general", 1)
    assert {record["repository"] for record in step["files"]} <= {"o/a", "o/b"} and step["files"][0]["score"] is None
    found = trace_repositories(artefacts, {"o/a"})
    assert found["scored"] == {} and found["phases"]["general"]["standard"]["steps"] > 0
    (tmp_path / "list").write_text("o/a\n")
    assert take_down_changes(recipe, road, tmp_path / "list")["tiers"]["standard"]["files"] == found["tiers"]["standard"]["files"]


def test_trainings_own_seed_orders_what_a_trace_names(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, sets = made
    recipe, road = open_road(TINY, [*sets, "train.seed=5"], out)
    artefacts = artefacts_of(recipe, road)
    for step in (1, 2):
        data = phase_samples("general", recipe.train.phases["general"], road.folder("tokenize"), 5)
        expected = {number: [file.id for files in data.files(number) for file in files] for number in recipe.train.phases["general"].samples_of(step - 1)}
        assert {number: [piece["id"] for piece in pieces] for number, pieces in trace_step(artefacts, "general", step)["samples"].items()} == expected
    # What is built ahead is what training and a trace then map: nothing is added.
    cache = build_index(TINY, [*sets, "train.seed=5"], out, str(tmp_path / "cache"), None)
    built = sorted(cache.glob("*.index"))
    mapped = phase_samples("general", recipe.train.phases["general"], road.folder("tokenize"), 5, str(tmp_path / "cache"))
    assert mapped[len(mapped) - 1] is not None and sorted(cache.glob("*.index")) == built


def test_a_trained_phase_keeps_the_seed_it_was_trained_with(tmp_path: Path) -> None:
    """Whatever the recipe says now; one that is not trained yet has the recipe's."""
    stand_in(build_road(load_recipe(TINY, ["train.seed=5"]), tmp_path))
    now = ["train.seed=6", f"train.phases.late={PHASE}"]
    assert _seeds(tmp_path, *now) == {"general": 5, "continued": 5, "enhanced": 5, "late": 6}
    stand_in(build_road(load_recipe(TINY, ["seed=9"]), tmp_path))  # no seed of training's own: the road's
    assert set(_seeds(tmp_path).values()) == {9}


def test_tokens_of_a_tier_that_is_no_more(tmp_path: Path) -> None:
    """A tier that phases read has to be the one that was tokenized, where one that nothing was made of may be any or none."""
    road = build_road(load_recipe(TINY), tmp_path)
    stand_in(road)
    building = Building(road.folder("synthesize"), "synthesize", 1, {}, 1, {}).open()
    (building.work / "content").write_text("another")
    building.publish()
    with pytest.raises(SnowError, match="was made of another synthesize than"):
        artefacts_of(load_recipe(TINY), road)
    tokenize = Building(road.folder("tokenize"), "tokenize", 1, road.stages["tokenize"].settings, 1, {
        name: had for name, had in road.building(road.stages["tokenize"]).inputs.items() if name.partition("/")[0] in ("corpus", "tokenizer")
    }).open()  # fmt: skip
    (tokenize.work / "content").write_text("tokens")
    tokenize.publish()
    recipe = load_recipe(TINY, ONE_PHASE)
    road = build_road(recipe, tmp_path)
    assert artefacts_of(recipe, road).annotate == road.folder("annotate")  # it scored this corpus
    corpus = Building(road.folder("annotate"), "annotate", 1, {}, 1, {"corpus": "another"}).open()
    (corpus.work / "content").write_text("scores of another corpus")
    corpus.publish()
    assert artefacts_of(recipe, road).annotate is None
    assert training_states(recipe, road) == {"general": "trained on other tokens"}


def _seeds(out: Path, *overrides: str) -> dict[str, int]:
    recipe = load_recipe(TINY, overrides)
    return artefacts_of(recipe, build_road(recipe, out)).seeds
