"""The batch script that starts servers on a job's nodes and generates against them, with the small real model in vLLM's place."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.tokens import train_tokenizer
from megatron_snow.tokens.settings import TokenizerSettings, TokenizerTraining
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import ROOT, log, path
from tests.synthesis.test_server import COPY

SERVE = (
    f'exec {sys.executable} -m megatron_snow.synthesis.llama_server fixture:SmolLM2-135M-Instruct --name "$MODEL" --host 0.0.0.0 --port "$PORT" --context 512'
)


@pytest.fixture
def annotated(prepared: Path, tmp_path: Path) -> Path:
    """A folder with a recipe and out/, in which all arrows before synthesize are done."""
    from megatron_snow.recipe.drive import open_road

    (tmp_path / "prompt.txt").write_text(COPY)
    recipe = tmp_path / "recipe.yaml"
    text = (prepared / "recipe.yaml").read_text()
    own = f"""synthesize:
  model: small
  prompt: {tmp_path / "prompt.txt"}
  requests: 6
  max_tokens: 60
  temperature: 0
  concurrency: 1
  min_characters: 20
  near_duplicates: null
  diversity: null
"""
    recipe.write_text(text.replace('synthesize:\n  endpoints: ["http://localhost:8000/v1"]\n  model: none\n', own))
    _, road = open_road(recipe, [], tmp_path / "out")
    rows = [
        Document(
            id=f"t/r/{i}", text=f"def add_{i}(left, right):\n    return left + right + {i}\n", language="Python", repository="r", path=str(i), license="MIT",
            source="t", score=0.5,
        )
        for i in range(6)
    ]  # fmt: skip
    for name, work in zip(("corpus", "tokenizer", "annotate"), ("standard", None, "high_quality"), strict=True):
        building = road.building(road.stages[name]).open()
        if work is None:
            train_tokenizer(TokenizerSettings(train=TokenizerTraining(vocabulary=280, sample=10_000)), tmp_path / "out" / "1-corpus", building.work)
        else:
            write_documents(building.work / work, rows)
        building.publish()
    return tmp_path


def submit(cluster: Cluster, work: Path, serve: str) -> str:
    options = ("--nodes=2", "--gpus-per-node=1", "--cpus-per-task=1", f"--output={work}/%x-%j.log", f"--chdir={work}", "--job-name=synthesis")
    (work / "examples").symlink_to(ROOT / "examples")
    script = ROOT / "examples" / "slurm" / "synthesize.sbatch"
    return cluster.submit(*options, script, work / "recipe.yaml", "--out", work / "out", cwd=work, PATH=path(), SERVE=serve, READY="240", PYTHONPATH=str(ROOT))


def servers(cluster: Cluster) -> str:
    return cluster.run("bash", "-c", "ps axo args | grep '[m]egatron_snow.synthesis.llama_server' || true").stdout


@pytest.mark.soak
def test_servers_on_all_nodes_answer_and_are_gone_afterwards(cluster: Cluster, annotated: Path) -> None:
    job = submit(cluster, annotated, SERVE)
    ended = cluster.finished(job, 400)
    said = log(annotated, job)
    assert ended["JobState"] == "COMPLETED", said + "".join(file.read_text() for file in annotated.glob("*-server-*.log"))
    assert said.count("serves small") == 2 and "the servers are stopped" in said
    counts = json.loads((annotated / "out" / "4-synthesize" / "summary.json").read_text())
    assert counts["answers"] == 6 and counts["unanswered"] == 0
    assert servers(cluster) == ""


def test_where_no_server_starts_the_job_fails_and_says_where_to_look(cluster: Cluster, annotated: Path) -> None:
    job = submit(cluster, annotated, "echo no such model; exit 1")
    ended = cluster.finished(job, 200)
    said = log(annotated, job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "1:0"), said
    assert "no server answers on node" in said and f"synthesis-{job}-server-*.log" in said
    assert all("no such model" in file.read_text() for file in annotated.glob("*-server-*.log"))
