#!/usr/bin/env python3
"""The annotator's encoder against a Hugging Face pipeline on the same sections of real files, in turn.

    python bench/annotate.py [--files 200] [--section 128] [--repeat 3] [--precision bfloat16] [--workers 2]

Peer: transformers' feature-extraction pipeline with the same weights, dtype and section texts (its tokenizer cuts at the same
length), at batch sizes 1, 8 and 32, with torch's default number of threads; its best batch counts. Files are the standard
library's and the installed packages', longest and shortest alike. Ours includes cutting, tokenising, copies and padding. Shown are medians of wall
seconds, sections a second, our padding, and the ratio; CPU seconds tell more on a busy machine (those of our worker processes are not
among them: ``--workers 1``). Starting our worker processes is not timed, nor is loading either model.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer, pipeline

from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.quality import crew as crew_module
from megatron_snow.quality.crew import EncoderCrew
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.settings import AnnotateSettings

BATCHES = (1, 8, 32)


def real_files(count: int) -> list[str]:
    """Random source files of this machine's Python."""
    paths = sorted(path for root in ("stdlib", "purelib") for suffix in ("*.py", "*.h") for path in Path(sysconfig.get_path(root)).rglob(suffix))
    texts = (path.read_text("utf-8", "replace") for path in random.Random(0).sample(paths, min(len(paths), 2 * count)))
    return [text for text in texts if text.strip()][:count]


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--section", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    texts = real_files(flags.files)
    values = {"encoder": "fixture:all-MiniLM-L6-v2", "pooling": "mean", "section": flags.section, "precision": flags.precision, "workers": flags.workers}
    settings = AnnotateSettings.model_validate(values)
    encoder = SectionEncoder(settings)
    sections = [section for found in encoder.sections(texts) for section in found]
    folder = fixture("all-MiniLM-L6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The peer gets each section's text, so that it need not read the rest of a long file; decoding and encoding again gives the same tokens but for rare ones.
    section_texts = [tokenizer.decode(section, skip_special_tokens=True) for section in sections]
    peer = pipeline("feature-extraction", model=AutoModel.from_pretrained(folder, dtype=getattr(torch, flags.precision)), tokenizer=tokenizer, device="cpu")
    truncated = {"truncation": True, "max_length": flags.section}

    def ours(crew: EncoderCrew) -> None:
        crew.embed([section for found in crew.encoder.sections(texts) for section in found])

    def theirs(batch: int) -> None:
        for vectors in peer(section_texts, batch_size=batch, tokenize_kwargs=truncated, return_tensors=True):
            vectors[0].float().mean(0)

    crew_module._WORTH_STARTING = 0.0
    with EncoderCrew(settings, encoder) as crew, torch.inference_mode():
        runs: dict[str, Callable[[], None]] = {"ours": lambda: ours(crew), **{f"pipeline, batch {n}": lambda n=n: theirs(n) for n in BATCHES}}  # type: ignore[misc]
        ours(crew)  # starts the workers
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        cpu: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(flags.repeat):
            for name, work in runs.items():
                start, spent = time.perf_counter(), time.process_time()
                work()
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - spent)
        mean = sum(map(len, sections)) / len(sections)
        print(f"{len(texts)} files, {len(sections)} sections of up to {flags.section} tokens (mean {mean:.0f}); {crew.computed}")
    for name, found in seconds.items():
        spent_here = f"{min(cpu[name]):7.2f} CPU s (least)" if flags.workers == 1 or name != "ours" else ""
        print(f"{name:20} {statistics.median(found):7.2f} s  {len(sections) / statistics.median(found):7.1f} sections/s  {spent_here}")
    best = min(statistics.median(found) for name, found in seconds.items() if name != "ours")
    print(f"{flags.precision}: {best / statistics.median(seconds['ours']):.2f} times the pipeline at its best batch")


if __name__ == "__main__":
    main()
