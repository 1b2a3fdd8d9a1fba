"""tools/build_index.py: what it builds is what training then maps, and nothing is left to build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_snow.artifacts.publish import Building
from megatron_snow.blend import native
from megatron_snow.cli.build_index import main
from megatron_snow.recipe.drive import open_road
from megatron_snow.training.samples import heldout_languages, phase_samples
from tests.training import small

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "quickstart" / "recipe.yaml"
SETS = [
    flag for phase in ("general", "continued", "enhanced")
    for flag in ("--set", f"train.phases.{phase}.sequence=32", "--set", f"train.phases.{phase}.max_epochs=1000")
]  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder whose tokenize arrow has run."""
    _, road = open_road(RECIPE, [], tmp_path / "out")
    building = Building(road.folder("tokenize"), "tokenize", 1, {}, 1, {}).open()
    shutil.rmtree(building.work)
    small.write_tokens(building.work)
    shutil.rmtree(building.work / "heldout")
    small.write_languages(building.work, {"Python": 2000, "C": 1000})
    building.publish()
    return tmp_path / "out"


def test_all_is_built_ahead(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    cache = tmp_path / "index"
    command = [sys.executable, ROOT / "tools" / "build_index.py", RECIPE, "--out", out, "--cache", cache, *SETS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[enhanced]" in done.stderr and "of indices in" in done.stderr
    recipe, road = open_road(RECIPE, SETS[1::2], out)
    expected = [phase_samples(name, phase, road.folder("tokenize"), recipe.seed) for name, phase in recipe.train.phases.items()]
    rows = [[data[i] for i in range(0, len(data), 97)] for data in expected]

    class Restored:
        def __new__(cls, lengths: object, key: int, offsets: object) -> object:
            assert not isinstance(offsets, int), "an order is built"
            return original(lengths, key, offsets)

    original = native.DocumentOrder
    monkeypatch.setattr(native, "DocumentOrder", Restored)
    for (name, phase), wanted in zip(recipe.train.phases.items(), rows, strict=True):
        data = phase_samples(name, phase, road.folder("tokenize"), recipe.seed, str(cache))
        assert all((data[i] == row).all() for i, row in zip(range(0, len(data), 97), wanted, strict=True))
        train = recipe.train.model_copy(update={"index_cache": str(cache)})
        languages, _ = heldout_languages(train, phase, road.folder("tokenize"), recipe.seed)
        assert list(languages) == ["Python", "C"] and all(one.sample(0) for one in languages.values())
    files = sorted(cache.glob("*.index"))
    assert main([str(RECIPE), "--out", str(out), "--cache", str(cache), *SETS]) == 0  # again: all is there
    assert sorted(cache.glob("*.index")) == files


@pytest.mark.parametrize(
    ("flags", "message"),
    [([], "give --cache FOLDER"), (["--cache", "x", "--phase", "last"], "no phase 'last'; it has: general"), (["--cache", "$NO_SUCH/x"], "not set")],
)
def test_bad_input(out: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main([str(RECIPE), "--out", str(out), *flags]) == 2
    assert message in capsys.readouterr().err


def test_no_tokens_yet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(RECIPE), "--out", str(tmp_path), "--cache", str(tmp_path / "x")]) == 2
    assert "run: snow tokenize" in capsys.readouterr().err
