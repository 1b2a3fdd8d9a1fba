"""The corpus's parallel steps as jobs on a real Slurm: the same bytes as on this machine, and nothing lost or done twice whatever is killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from megatron_snow.corpus import build
from megatron_snow.corpus.settings import CorpusSettings
from tests.corpus.test_build import hashes, planted, write_rows
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.jobs import ROOT, path

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
    assert done.returncode == 1 and "SnowError: sbatch refused the jobs of filtering" in done.stderr


class Gated(PipelineStep):  # type: ignore[misc] # datatrove ships no types
    """Counts its tries in files, and ends once there is a file ``open``."""

    type = "WRITER"
    name = "gated"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Wait, then write the task's file."""
        tries = len(list(self.folder.glob(f"{rank}.try*")))
        (self.folder / f"{rank}.try{tries}").write_text(os.environ["SLURM_JOB_ID"])
        while not (self.folder / "open").exists():
            time.sleep(0.1)
        (self.folder / f"{rank}.out").touch()
        yield from ()


TASKS = 3
GATED = (
    "import os, sys; from pathlib import Path; from megatron_snow.corpus.engine import run_steps; from megatron_snow.corpus.executors import SlurmExecutor\n"
    "from tests.slurm.test_corpus import TASKS, Gated\n"
    "folder = Path(sys.argv[1]); (folder / sys.argv[2]).write_text(str(os.getpid()))\n"
    "run_steps([Gated(folder)], TASKS, 1, folder / 'logs', 'gated', SlurmExecutor(partition='main', memory=2**30))"
)


def drive(cluster: Cluster, folder: Path, name: str, pool: ThreadPoolExecutor) -> Future:
    """A driver on the login node; its number is in the file ``name``."""
    return pool.submit(cluster.run, sys.executable, "-c", GATED, folder, name, check=False, PATH=path(), PYTHONPATH=str(ROOT))


def wait_for_tries(folder: Path, count: int) -> None:
    wait_until(lambda: len(list(folder.glob("*.try0"))) == count, 300, f"{count} tasks to begin", lambda: str(sorted(p.name for p in folder.iterdir())))


def outcome(folder: Path) -> tuple[list[str], list[str]]:
    """Files of finished tasks, and of tries."""
    return sorted(p.name for p in folder.glob("*.out")), sorted(p.name for p in folder.glob("*.try*"))


@pytest.mark.soak
def test_a_lost_task_is_sent_off_again(cluster: Cluster, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        try:
            driver = drive(cluster, tmp_path, "driver", pool)
            wait_for_tries(tmp_path, TASKS)
            cluster.run("scancel", "--signal=KILL", (tmp_path / "1.try0").read_text())
            wait_until(lambda: len(cluster.run("squeue", "--noheader", "--array").stdout.splitlines()) < TASKS, 60, "the job to end")
        finally:
            (tmp_path / "open").touch()
        done = driver.result()
    assert done.returncode == 0, done.stderr
    assert "1 tasks were lost; sent off again (2 of 3)" in done.stderr + done.stdout
    assert outcome(tmp_path) == (["0.out", "1.out", "2.out"], ["0.try0", "1.try0", "1.try1", "2.try0"])


@pytest.mark.soak
def test_a_killed_driver_finds_its_jobs_again(cluster: Cluster, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        try:
            first = drive(cluster, tmp_path, "first", pool)
            wait_for_tries(tmp_path, TASKS)
            cluster.run("kill", "-KILL", (tmp_path / "first").read_text())
            assert first.result().returncode != 0
            second = drive(cluster, tmp_path, "second", pool)
            wait_until(lambda: (tmp_path / "second").exists(), 120, "the second driver")
            time.sleep(5)  # it asks for jobs of its name before it sends any off: it must be given the time to do it wrong
        finally:
            (tmp_path / "open").touch()
        done = second.result()
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path) == (["0.out", "1.out", "2.out"], ["0.try0", "1.try0", "2.try0"])
