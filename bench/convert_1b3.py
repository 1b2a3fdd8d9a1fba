#!/usr/bin/env python3
"""Conversion both ways at the 1.3B shape of the paper, beside a synced copy of the bytes it writes: medians of interleaved runs and peak memory.

    python bench/convert_1b3.py [--repeat 3] [--dtype bf16] [--folder /tmp]

The weights are random and bf16; ``--dtype fp32`` makes an fp32 checkpoint and an fp32 model of them. Needs about four times the model in
``--folder`` (11 GB in bf16, 19 GB in fp32), which is emptied again. Each contestant starts with all earlier writes on disk and ends
with its own there. Peak memory is this process's high-water mark during a conversion, less what it held before (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from megatron_snow.artifacts.units import format_bytes
from megatron_snow.checkpoint import weights, weights_file
from megatron_snow.convert import to_checkpoint, to_hugging_face
from megatron_snow.convert.config import hugging_face_config
from megatron_snow.convert.llama import hugging_face_shapes
from megatron_snow.convert.safetensors_file import ShardedWriter
from megatron_snow.model.settings import ModelSettings

MODEL = ModelSettings()  # paper, table 1
VOCABULARY = 64_000  # paper, section 2
LOADED = (weights, weights_file)  # imported here, so that their memory is not counted as the conversion's


def make_model(folder: Path) -> None:
    """Random bf16 weights with their config.json."""
    folder.mkdir()
    shapes = hugging_face_shapes(MODEL, VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    with ShardedWriter(folder, shapes, "BF16") as out:
        for name, shape in shapes.items():
            out.write(name, torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator))
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    (folder / "config.json").write_text(json.dumps(hugging_face_config(MODEL, VOCABULARY, 8192, "bf16", ids)))


def copy(source: Path, target: Path) -> None:
    """A synced copy of every file of a folder, in pieces of 16 MiB."""
    target.mkdir()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        with file.open("rb") as reader, (target / file.name).open("wb") as writer:
            shutil.copyfileobj(reader, writer, 16 * 2**20)
            writer.flush()
            os.fsync(writer.fileno())


def field(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    with open("/proc/self/status") as lines:
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def measured(job: Callable[[Path], object], target: Path) -> tuple[float, int]:
    """Seconds and peak memory of ``job``, which makes ``target``."""
    os.sync()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    held, start = field("VmRSS"), time.perf_counter()
    job(target)
    return time.perf_counter() - start, field("VmHWM") - held


def export(training: Path, target: Path, dtype: str) -> None:
    """The way out into a folder that is made here."""
    target.mkdir()
    to_hugging_face(training, training / "hugging_face", target, dtype)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--folder", type=Path, help="where to write; the system's folder for temporary files by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="convert-") as scratch:
        work = Path(scratch)
        make_model(work / "model")
        to_checkpoint(work / "model", work / "training", dtype=given.dtype)
        contestants: dict[str, Callable[[Path], object]] = {
            "synced copy": lambda target: copy(work / "training" / "checkpoints", target),
            "to a checkpoint": lambda target: to_checkpoint(work / "model", target, dtype=given.dtype),
            "to Hugging Face": lambda target: export(work / "training", target, given.dtype),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        peaks = dict.fromkeys(contestants, 0)
        for _ in range(given.repeat):
            for name, job in contestants.items():
                took, peak = measured(job, work / "made")
                seconds[name].append(took)
                peaks[name] = max(peaks[name], peak)
                shutil.rmtree(work / "made")
        size = sum(path.stat().st_size for path in (work / "training" / "checkpoints").rglob("*") if path.is_file())
    largest = 2 * MODEL.ffn * MODEL.hidden, VOCABULARY * MODEL.hidden
    bound = 2 * max(largest) * (4 if given.dtype == "fp32" else 2) + 256 * 2**20
    print(f"{format_bytes(size)} written in {given.dtype} from bf16, {os.cpu_count()} cores, torch {torch.__version__}, median of {given.repeat}")
    for name, times in seconds.items():
        ratio = median(times) / median(seconds["synced copy"])
        memory = "" if name == "synced copy" else f"; peak {format_bytes(peaks[name])} above the imports (allowed: {format_bytes(bound)})"
        print(f"  {name:<16} {median(times):6.2f} s ({min(times):.2f} .. {max(times):.2f}), {ratio:.2f} x the copy{memory}")


if __name__ == "__main__":
    main()
