#!/usr/bin/env python3
"""How long a save holds up the training: asynchronous, and waiting for the disk, in turn in one process; medians.

python bench/checkpoint_stall.py [--repeat 5] [--hidden 512] [--layers 8]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.saver import Saver
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import FORMAT, Description, latest
from megatron_snow.model.initialise import initialise
from megatron_snow.model.settings import ModelSettings, parameters
from megatron_snow.parallel.backend import choose_backend
from megatron_snow.parallel.groups import close_groups, open_groups
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.engine import Engine
from megatron_snow.training.settings import LearningRate, PhaseSettings, TrainSettings

VOCABULARY, SEQUENCE, BATCH = 8192, 256, 4


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=5)
    arguments.add_argument("--hidden", type=int, default=512)
    arguments.add_argument("--layers", type=int, default=8)
    chosen = arguments.parse_args()
    model = ModelSettings(hidden=chosen.hidden, ffn=chosen.hidden * 11 // 4, layers=chosen.layers, heads=8, kv_heads=4)
    rate = LearningRate(warmup=Duration(amount=2, unit="steps"))
    phase = PhaseSettings(blend={"standard": 1.0}, tokens=100 * BATCH * SEQUENCE, batch=BATCH, sequence=SEQUENCE, learning_rate=rate)
    with tempfile.TemporaryDirectory() as folder:
        work, backend = Path(folder), choose_backend(0)
        backend.start(torch.get_num_threads())
        place = open_groups(Layout(), backend, 0, 1, f"file://{work / 'meeting'}", 600)
        backend.seed(1)
        engine = Engine(TrainSettings(phases={"general": phase}), phase, model, VOCABULARY, Layout(), backend, place)
        initialise(engine.chunks, model, 1)
        engine.optimizer.reload_model_params()
        row = torch.randint(0, VOCABULARY, (1, SEQUENCE), device=backend.device)
        batches = [{"tokens": row, "labels": row, "positions": torch.arange(SEQUENCE, device=backend.device)[None]}] * BATCH
        savers = {
            name: Saver(work / name, engine.chunks, engine.optimizer, CheckpointSettings(keep=1, asynchronous=name == "asynchronous"), place, 600)
            for name in ("asynchronous", "waiting")
        }
        times: dict[str, list[float]] = {f"{name}, {what}": [] for name in savers for what in ("call", "steps")}
        steps: list[float] = []
        for number in range(chosen.repeat + 1):  # the first round warms up
            steps.append(_seconds(lambda: [engine.step(batches, 1e-4, 1, False) for _ in range(3)]))
            for name, saver in savers.items():
                description = Description(
                    format=FORMAT, phase="general", step=number, tokens=0, model=model, vocabulary=VOCABULARY, sequence=SEQUENCE, precision="bf16",
                    layout=Layout(), seed=1,
                )  # fmt: skip
                times[f"{name}, call"].append(_seconds(lambda saver=saver, description=description: saver.begin(description)))
                times[f"{name}, steps"].append(_seconds(lambda: [engine.step(batches, 1e-4, 1, False) for _ in range(3)]))
                saver.finish()
        newest = latest(work / "waiting")
        assert newest is not None
        size = sum(path.stat().st_size for path in newest.iterdir())
        print(f"{parameters(model, VOCABULARY) / 1e6:.1f}M parameters, checkpoint of {size / 1e6:.0f} MB, {backend.name}, median of {chosen.repeat}")
        plain = statistics.median(steps[1:])
        print(f"three steps without a save: {plain:.3f} s")
        held = {}
        for name in savers:
            call, after = (statistics.median(times[f"{name}, {what}"][1:]) for what in ("call", "steps"))
            held[name] = call + after - plain
            print(f"{name}: the call {call:.3f} s, the three steps after it {after:.3f} s, held up in all {held[name]:.3f} s")
        print(f"asynchronous / waiting: {held['asynchronous'] / held['waiting']:.2f}")
        close_groups()


def _seconds(work: object) -> float:
    began = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - began


if __name__ == "__main__":
    main()
