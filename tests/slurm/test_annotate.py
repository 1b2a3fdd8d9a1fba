"""The tier scored by jobs on a real Slurm: the same bytes as on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import shards
from megatron_snow.quality import annotate
from tests.quality.conftest import *  # noqa: F403 - its fixtures: a corpus in shards, a tokenizer, a small encoder
from tests.quality.test_annotator import contents
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import path

PROGRAM = (
    "import sys; from pathlib import Path; from megatron_snow.quality import AnnotateSettings, annotate\n"
    "annotate(AnnotateSettings.model_validate_json(Path(sys.argv[1]).read_text()), 1, *map(Path, sys.argv[2:]))"
)


@pytest.mark.soak
def test_jobs_give_the_same_scores_and_tier(cluster: Cluster, settings, corpus: Path, tokenizer: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    annotate(settings(), 1, corpus, tokenizer, tmp_path / "here")
    there = settings(executor={"kind": "slurm", "partition": "main", "memory": 2 * 2**30})
    assert there.identity() == settings().identity() and len(shards(corpus / "standard")) > 1
    (tmp_path / "settings.json").write_text(there.model_dump_json())
    cluster.run(sys.executable, "-c", PROGRAM, tmp_path / "settings.json", corpus, tokenizer, tmp_path / "there", PATH=path())
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert "snow-scoring" in cluster.run("scontrol", "show", "job").stdout  # it was jobs that did it
    refused = settings(executor={"kind": "slurm", "partition": "absent", "memory": 2 * 2**30})
    (tmp_path / "settings.json").write_text(refused.model_dump_json())
    (tmp_path / "refused").mkdir()
    done = cluster.run(sys.executable, "-c", PROGRAM, tmp_path / "settings.json", corpus, tokenizer, tmp_path / "refused", check=False, PATH=path())
    assert done.returncode == 1 and "SnowError: sbatch refused the jobs of scoring" in done.stderr and "annotate.executor" in done.stderr
