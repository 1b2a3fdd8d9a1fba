from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import latest, step_folder
from megatron_snow.checkpoint.weights import weight_shapes
from megatron_snow.model.settings import ModelSettings, parameters
from megatron_snow.parallel.settings import Layout
from megatron_snow.training import train_phase
from megatron_snow.training.ramp import BatchRamp
from megatron_snow.training.records import METRICS, read_rows
from megatron_snow.training.settings import TrainSettings, ValidationSettings
from tests.training import small


def train(tokens: Path, tokenizer: Path, work: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "settings": small.train(), "phase": "general", "model": small.MODEL, "layout": Layout(), "seed": 7,
        "tokens": tokens, "tokenizer": tokenizer, "previous": None, "work": work,
    }  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    return train_phase(**(arguments | changes))


def test_a_phase_is_trained_and_summed_up_once(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    summary = train(tokens, tokenizer, work, layout=Layout(tensor=2, pipeline=2))
    assert summary == json.loads((work / "summary.json").read_text())
    assert summary["steps"] == 5 and summary["tokens"] == 5 * 8 * 32 and summary["vocabulary"] == 256
    assert summary["parameters"] == parameters(small.MODEL, 256) == sum(_numel(shape) for shape in weight_shapes(latest(work)).values())  # type: ignore[arg-type]
    assert summary["loss"] == read_rows(work / METRICS)[-1]["loss"] and summary["validation"].keys() == {"heldout"}
    assert summary["passes"].keys() == {"standard", "high_quality"}
    assert {path.name for path in work.iterdir()} == {"checkpoints", "metrics.jsonl", "validation.jsonl", "summary.json"}
    before = (work / METRICS).stat().st_mtime_ns
    assert train(tokens, tokenizer, work, layout=Layout(tensor=2, pipeline=2)) == summary  # nothing left to do, nothing done
    assert (work / METRICS).stat().st_mtime_ns == before


def test_a_run_killed_after_its_last_save_leaves_nothing_else(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    """Killed before the launcher, the ranks and the saver had cleared away; the next run has nothing to train and does that."""
    work, keep = tmp_path / "work", small.train(checkpoint=CheckpointSettings(every=Duration(amount=2, unit="steps"), keep=1))
    train(tokens, tokenizer, work, settings=keep)
    whole = {str(path.relative_to(work)) for path in work.rglob("*")}
    shutil.copytree(step_folder(work, 5), step_folder(work, 4))
    for left in (".launch/spec.json", ".heartbeat/rank-0", "checkpoints/.step-00000002.deleting/x", "checkpoints/.step-00000004.saving/x"):
        (work / left).parent.mkdir()
        (work / left).write_text("{}")
    train(tokens, tokenizer, work, settings=keep)
    assert {str(path.relative_to(work)) for path in work.rglob("*")} == whole


def _numel(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def tiers(*names: str) -> TrainSettings:
    return small.train(validation=ValidationSettings(samples=8, tiers=names))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": Layout(tensor=3)}, "layout.tensor 3 does not divide the model's heads 4"),
        ({"settings": small.train(small.phase(micro_batch=3))}, "batch 8 is not a multiple of micro_batch 3"),
        (
            {"settings": small.train(validation=ValidationSettings(samples=7)), "layout": Layout(data=2)},
            "train.validation.samples stands for the batch here: batch 7",
        ),
        (
            {"settings": small.train(validation=ValidationSettings(samples=8, language_samples=5, tiers=("heldout",))), "layout": Layout(data=2)},
            "train.validation.language_samples stands for the batch here: batch 5",
        ),
        ({"settings": small.train(small.phase(blend={"rare": 1.0}))}, "rare"),
        ({"settings": small.train(small.phase(replay={"rare": 0.5}))}, "rare"),
        (
            {"settings": small.train(small.phase(batch_ramp=BatchRamp(start=3, increment=5, over="2 steps"))), "layout": Layout(data=2)},
            "batch_ramp begins with smaller batches: batch 3 is not a multiple of micro_batch 1 x 2 data-parallel replicas",
        ),
        ({"settings": tiers("rare")}, "rare"),
        ({"settings": small.train(small.phase(2000))}, "passes, max_epochs allows 4"),
        ({"model": ModelSettings(hidden=64, heads=4, kv_heads=4, layers=3), "layout": Layout(pipeline=2)}, "model.layers 3 does not split into 2"),
        ({"previous": Path("nowhere")}, "the phase before left no whole checkpoint"),
        ({"tokenizer": Path("nowhere")}, "nowhere holds no tokenizer.json"),
        ({"tokens": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_process_starts(changes: dict[str, Any], says: str, tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError) as error:
        train(**({"tokens": tokens, "tokenizer": tokenizer, "work": tmp_path} | changes))
    assert says in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_under_srun_without_a_meeting_point_the_remedy_is_named(tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SnowError, match="export MASTER_ADDR"):
        train(tokens, tokenizer, tmp_path)


JOIN = """
import sys
from pathlib import Path
from megatron_snow.parallel.settings import Layout
from tests.training import small
from tests.training.test_phase import train
tokens, tokenizer, work = map(Path, sys.argv[1:])
settings = small.train(phases={"general": small.phase(2), "continued": small.phase(2)})
layout = Layout(tensor=2)
train(tokens, tokenizer, work / "general", settings=settings, layout=layout)
print(train(tokens, tokenizer, work / "continued", settings=settings, layout=layout, phase="continued", previous=work / "general").get("loss"))
"""


def test_under_torchrun_the_processes_join_phase_after_phase(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    script = tmp_path / "join.py"
    script.write_text(JOIN)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(tokens),
        str(tokenizer),
        str(tmp_path / "work"),
    ]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])), "TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(["None", str(read_rows(tmp_path / "work" / "continued" / METRICS)[-1]["loss"])])
