"""A study as a job array on the real cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ablation.small import STUDY, write
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import ROOT, log, path


@pytest.mark.soak
def test_a_study_is_shared_data_an_array_and_results(cluster: Cluster, tmp_path: Path) -> None:
    arms = {"alpha": STUDY["arms"]["alpha"], "beta": {**STUDY["arms"]["alpha"], "set": {"train.phases.general.learning_rate.peak": "$peak"}}}
    sets = {**STUDY["scales"]["cpu"]["set"], "train.phases.general.tokens": "100 % of $tokens", "evaluate.sandbox.isolation": "process"}
    scales = {"cpu": {**STUDY["scales"]["cpu"], "values": {"peak": 1e-3}, "set": sets}}
    study = write(tmp_path, arms=arms, scales=scales, seeds=[1])
    options = f"--output={tmp_path}/%x-%A.log --cpus-per-task=1"
    command = ["examples/slurm/ablate.sh", study, *options.split(), "--", "--out", tmp_path / "out"]
    said = cluster.run(*map(str, command), cwd=ROOT, PATH=path(), SHARED_OPTIONS=options).stdout
    data, runs, results = (line.split()[0] for line in said.splitlines())
    assert said.splitlines()[1].endswith("runs 0-1")
    assert cluster.finished(results, 900)["JobState"] == "COMPLETED", log(tmp_path, results) + log(tmp_path, data) + log(tmp_path, runs)
    tree = json.loads((tmp_path / "out" / "results" / "results.json").read_text())
    assert tree["runs"] == {"finished": ["alpha/seed-1", "beta/seed-1"], "missing": []}
    assert len(list((tmp_path / "out" / "store" / "corpus").glob("*/manifest.json"))) == 1
    assert "corpus finished" not in log(tmp_path, runs) and "[corpus] finished" in log(tmp_path, data)
