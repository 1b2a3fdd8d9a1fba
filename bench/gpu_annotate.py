#!/usr/bin/env python3
"""Tokens a second of the annotator's encoder at 110M parameters (arctic-embed-m's shape) on a GPU; the goal is 2.6M on an H100.

    python bench/gpu_annotate.py [--files 20000] [--section 512] [--device cuda] [--layers 12] [--batch-tokens 32768]

Weights are random in BERT-base's shape (12 layers, 768 wide, 30,522 pieces: 109M parameters), the tokenizer is all-MiniLM's (BERT's own
vocabulary), files are this machine's. Counted are tokens that are no padding, copies left out. ``--device cpu --layers 2 --files 50``
exercises the script without a GPU.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sysconfig
import tempfile
import time
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.quality.crew import EncoderCrew, ahead
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.settings import AnnotateSettings

WINDOW = 2_000  # files tokenised together


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--section", type=int, default=512)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch-tokens", type=int, default=None)
    flags = parser.parse_args()
    paths = [path for root in ("stdlib", "purelib") for path in Path(sysconfig.get_path(root)).rglob("*.py")]
    chosen = random.Random(0).choices(sorted(paths), k=flags.files)
    # A comment of its own makes every file's sections distinct: copies would be computed once.
    texts = [f"# {number}\n{path.read_text('utf-8', 'replace')}" for number, path in enumerate(chosen)]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(fixture("all-MiniLM-L6-v2") / name, folder)
        torch.manual_seed(0)
        model = BertModel(BertConfig(num_hidden_layers=flags.layers))
        model.save_pretrained(folder)
        values = {"encoder": folder, "pooling": "cls", "section": flags.section, "device": flags.device, "batch_tokens": flags.batch_tokens}
        settings = AnnotateSettings.model_validate({name: value for name, value in values.items() if value is not None})
        with EncoderCrew(settings, SectionEncoder(settings)) as crew:
            windows = [texts[first : first + WINDOW] for first in range(0, len(texts), WINDOW)]
            crew.embed([section for found in crew.encoder.sections(windows[0]) for section in found])  # warm-up
            crew.computed.tokens = crew.computed.with_padding = crew.computed.sections = crew.computed.distinct = 0
            start = time.perf_counter()
            for sections in ahead(crew.encoder.sections(window) for window in windows):
                crew.embed([section for found in sections for section in found])
            seconds = time.perf_counter() - start
            parameters = sum(parameter.numel() for parameter in model.parameters())
            name = torch.cuda.get_device_name() if flags.device == "cuda" else "cpu"
            print(f"{name}, {parameters / 1e6:.0f}M parameters, {crew.encoder.precision}: {crew.computed}")
            print(f"{crew.computed.tokens / seconds:,.0f} non-padding tokens/s ({len(texts) / seconds:,.0f} files/s), tokenising beside it")


if __name__ == "__main__":
    main()
