"""The corpus's parallel steps as jobs on a real Slurm: the same bytes as on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from megatron_snow.corpus import build
from megatron_snow.corpus.settings import CorpusSettings
from tests.corpus.test_build import hashes, planted, write_rows
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import path

PROGRAM = (
    "import sys; from pathlib import Path; from megatron_snow.corpus import build; from megatron_snow.corpus.settings import CorpusSettings\n"
    "build(CorpusSettings.model_validate_json(Path(sys.argv[1]).read_text()), 1, Path(sys.argv[2]))"
)


def test_jobs_make_the_same_corpus(cluster: Cluster, tmp_path: Path) -> None:
    settings = CorpusSettings(sources=(write_rows(tmp_path / "rows", planted(), 3),), heldout_fraction=0.15, workers=1)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    build(settings, 1, tmp_path / "here")
    slurm = {"kind": "slurm", "partition": "main", "memory": 2**30}
    (tmp_path / "settings.json").write_text(CorpusSettings.model_validate({**settings.model_dump(), "executor": slurm}).model_dump_json())
    cluster.run(sys.executable, "-c", PROGRAM, tmp_path / "settings.json", tmp_path / "there", PATH=path())
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")
    assert "snow-filtering" in cluster.run("scontrol", "show", "job").stdout  # it was jobs that did it


def test_options_that_slurm_refuses_are_said(cluster: Cluster, tmp_path: Path) -> None:
    settings = CorpusSettings.model_validate(
        {"sources": [write_rows(tmp_path / "rows", planted()[:4], 1)], "executor": {"kind": "slurm", "partition": "absent", "memory": 2**30}}
    )
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    (tmp_path / "there").mkdir()
    done = cluster.run(sys.executable, "-c", PROGRAM, tmp_path / "settings.json", tmp_path / "there", check=False, PATH=path())
    assert done.returncode == 1 and "SnowError: sbatch refused the corpus's jobs" in done.stderr
