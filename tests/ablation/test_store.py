"""Where arms' artefacts lie: what they are made from decides it, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import orjson

from megatron_snow.ablation.store import Roads
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"


def test_arms_that_seek_other_benchmarks_have_places_of_their_own_in_any_order(tmp_path: Path) -> None:
    """What synthesize must not hold is said by the corpus's settings: an arm that is looked at first must not lend its files to the next."""
    row = {
        "task_id": "Mbpp/2", "prompt": "one", "entry_point": "f", "canonical_solution": "", "base_input": [], "plus_input": [], "contract": "",
        "assertion": "", "atol": 0,
    }  # fmt: skip
    (tmp_path / "MbppPlus.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    arms = [load_recipe(TINY), load_recipe(TINY, [f"corpus.decontamination.benchmarks=[{{name: mbpp+, source: {tmp_path}}}]"])]
    own = [build_road(recipe, tmp_path).stages["synthesize"].external() for recipe in arms]
    assert own[0] != own[1]
    places = []
    for order in itertools.permutations(range(2)):
        roads = Roads(tmp_path / "out")
        made = {number: roads.road(arms[number]) for number in order}
        assert [made[number].stages["synthesize"].external() for number in range(2)] == own
        places.append([{name: stage.folder for name, stage in made[number].stages.items()} for number in range(2)])
    assert places[0] == places[1] and places[0][0]["synthesize"] != places[0][1]["synthesize"]
