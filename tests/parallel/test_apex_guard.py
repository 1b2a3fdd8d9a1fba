from __future__ import annotations

import importlib
import os
import subprocess
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


BUILD = """
import sys
from megatron_snow.parallel.backend import choose_backend
backend = choose_backend(0)
backend.start(1)
from megatron_snow.model.build import build_chunks, transformer_config
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.groups import open_groups
from megatron_snow.parallel.settings import Layout
open_groups(Layout(), backend, 0, 1, f"file://{sys.argv[1]}", 60)
model = ModelSettings(hidden=32, ffn=64, layers=1, heads=2, kv_heads=2)
config = transformer_config(model, Layout(), backend, "fp32", "none")
print(sum(parameter.numel() for parameter in build_chunks(config, model, 128, 16, Layout(), backend)[0].parameters()))
"""


def test_a_model_is_built_beside_what_is_not_nvidias(tmp_path: Path) -> None:
    """An empty folder called apex, and a package like PyPI's of that name: megatron-core alone would take either for NVIDIA's."""
    (tmp_path / "folder" / "apex").mkdir(parents=True)
    (tmp_path / "package" / "apex").mkdir(parents=True)
    (tmp_path / "package" / "apex" / "__init__.py").write_text("raise RuntimeError('a stranger was run')\n")
    started = []
    for site in ("folder", "package"):
        path = os.pathsep.join([str(tmp_path / site), str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-c", BUILD, str(tmp_path / f"meeting-{site}")]
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in started:
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert out.split()[-1] == str(128 * 32 + (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32)  # tied embedding, one layer, last norm
        assert "not NVIDIA's apex" in said
