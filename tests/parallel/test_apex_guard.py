from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from megatron_snow.parallel.apex_guard import guard_apex


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the path; what the guard does to sys.modules is undone."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "apex", raising=False)
    yield tmp_path
    sys.modules.pop("apex", None)
    importlib.invalidate_caches()


def test_absent_apex_is_nothing_to_say(site: Path) -> None:
    assert guard_apex() is False
    assert "apex" not in sys.modules


@pytest.mark.parametrize("files", [[], ["__init__.py"], ["__init__.py", "optimizers/fused_adam.py"]])
def test_what_is_not_nvidias_cannot_be_imported(site: Path, files: list[str]) -> None:
    (site / "apex").mkdir()
    for name in files:
        (site / "apex" / name).parent.mkdir(exist_ok=True)
        (site / "apex" / name).write_text("raise RuntimeError('a stranger was run')\n")
    importlib.invalidate_caches()
    with pytest.warns(UserWarning, match="not NVIDIA's apex"):
        assert guard_apex() is False
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("apex")
    assert guard_apex() is False  # a second call, without a second warning


def test_nvidias_apex_is_left_alone(site: Path) -> None:
    (site / "apex" / "optimizers").mkdir(parents=True)
    for name in ("apex/__init__.py", "apex/optimizers/fused_adam.py", "amp_C.py", "fused_layer_norm_cuda.py"):
        (site / name).write_text("")
    importlib.invalidate_caches()
    assert guard_apex() is True
    importlib.import_module("apex")
