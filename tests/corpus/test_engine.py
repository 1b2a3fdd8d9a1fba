"""Tasks on the executors: a killed worker costs a try and nothing else; Slurm and Ray that are not there are said to be missing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build, cluster
from megatron_snow.corpus.engine import run_steps
from megatron_snow.corpus.executors import RayExecutor, SlurmExecutor
from megatron_snow.corpus.settings import CorpusSettings
from tests.corpus.test_build import hashes, planted, write_rows

NO_RAY = "Ray is not installed: pip install 'megatron_snow[ray]'"


class Fatal(PipelineStep):
    """Writes its task's number; the first tries of some tasks are killed by the kernel's own signal, once the file ``after`` is there."""

    type = "WRITER"
    name = "fatal"

    def __init__(self, folder: Path, killed: dict[int, int], after: Path | None = None) -> None:
        super().__init__()
        self.folder, self.killed, self.after = folder, killed, after

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Counts its tries in files."""
        tries = len(list(self.folder.glob(f"{rank}.try*")))
        (self.folder / f"{rank}.try{tries}").touch()
        if tries < self.killed.get(rank, 0):
            end = time.monotonic() + 60
            while self.after and not self.after.exists() and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"{rank}.out").write_text(str(rank))
        yield from ()


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    run_steps([Fatal(tmp_path, {2: 1, 4: 2})], 6, 2, tmp_path / "logs", "test")
    assert sorted(path.name for path in tmp_path.glob("*.out")) == [f"{rank}.out" for rank in range(6)]
    assert len(list(tmp_path.glob("4.try*"))) >= 3


def test_workers_that_always_die_are_said(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="worker processes were killed 3 times before any of the 1 tasks left was done"):
        run_steps([Fatal(tmp_path, {0: 100}, after=tmp_path / "logs" / "completions" / "00001")], 2, 2, tmp_path / "logs", "test")
    assert (tmp_path / "1.out").exists()


def test_slurm_and_ray_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SnowError, match="sbatch is not on PATH"):
        run_steps([], 1, 1, tmp_path / "logs", "test", SlurmExecutor(partition="main"))
    monkeypatch.setattr(cluster.shutil, "which", lambda tool: tool)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(SnowError, match="a job of an array cannot send off"):
        run_steps([], 1, 1, tmp_path / "logs", "test", SlurmExecutor(partition="main"))
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(SnowError, match="ray, which is not installed"):
        run_steps([], 1, 1, tmp_path / "logs", "test", RayExecutor())


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray on this machine for several tests; ``test_ray_makes_the_same_corpus`` lets the arrow start its own."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


def test_ray_makes_the_same_corpus(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    settings = CorpusSettings(sources=(write_rows(tmp_path / "rows", planted(), 3),), heldout_fraction=0.15, workers=1)
    on_ray = CorpusSettings.model_validate({**settings.model_dump(), "executor": {"kind": "ray", "memory": 2**30, "jobs": 2}})
    for name, chosen in (("local", settings), ("ray", on_ray)):
        (tmp_path / name).mkdir()
        build(chosen, 1, tmp_path / name)
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


@pytest.mark.usefixtures("ray_here")
def test_what_befalls_tasks_on_ray(tmp_path: Path) -> None:
    """A killed one is tried again, one that raises is said, and one that no node can hold is refused where Ray would wait."""
    run_steps([Fatal(tmp_path, {1: 1})], 3, 2, tmp_path / "logs", "test", RayExecutor(memory=2**30))
    assert sorted(path.name for path in tmp_path.glob("*.out")) == ["0.out", "1.out", "2.out"] and (tmp_path / "1.try1").exists()
    with pytest.raises(FileNotFoundError, match="absent"):
        run_steps([Fatal(tmp_path / "absent", {})], 1, 1, tmp_path / "other", "test", RayExecutor(memory=2**30))
    with pytest.raises(SnowError, match=r"no node of the Ray cluster has 1 CPUs and .* for a task"):
        run_steps([Fatal(tmp_path, {})], 1, 1, tmp_path / "third", "test", RayExecutor(memory=2**50))


def test_the_executor_is_no_part_of_the_result() -> None:
    slurm = CorpusSettings.model_validate({"executor": {"kind": "slurm", "partition": "cpu", "options": {"account": "a"}}})
    assert slurm.identity() == CorpusSettings().identity() and isinstance(slurm.executor, SlurmExecutor)
    with pytest.raises(ValueError, match="partition"):
        CorpusSettings.model_validate({"executor": {"kind": "slurm"}})
