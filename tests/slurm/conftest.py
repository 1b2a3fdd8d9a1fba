"""A cluster for all of the folder's tests, and an output folder in which everything before training is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing
from tests.training import small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes: jobs take two, one is spare."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Cluster(3) as running:
        yield running


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe.yaml and out/, where the arrows up to tokenize have left artefacts of the tests' own tokens."""
    from megatron_snow.recipe.drive import open_road

    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(Path(__file__).with_name("recipe.yaml"), folder)
    (folder / "none.jsonl").touch()
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("path: none}", f"path: {folder / 'none.jsonl'}}}"))
    _, road = open_road(recipe, [], folder / "out")
    for stage in list(road.stages.values())[:5]:
        building = road.building(stage).open()
        if stage.name == "tokenizer":
            small.write_tokenizer(building.work)
        elif stage.name == "tokenize":
            small.write_tokens(building.work)
        building.publish()
    return folder


@pytest.fixture
def work(prepared: Path, tmp_path: Path) -> Path:
    """A copy of ``prepared``'s out/ of the test's own, beside its recipe: tmp_path."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path
