#!/usr/bin/env python3
"""tools/preprocess_data.py against Megatron-LM's preprocess_data.py and preprocess_data_fast.py: same input, tokenizer, workers and bytes.

    python bench/preprocess.py --megatron-lm CHECKOUT [--peer-python PYTHON] [--input FILE] [--megabytes 200] [--repeat 3] [--tokenizer FOLDER]

CHECKOUT is a clone of Megatron-LM at a commit that has tools/preprocess_data_fast.py (main as of 2026-08); PYTHON one that
can run it (Python 3.12, torch, transformers, triton, gigatoken). Without CHECKOUT only ours is run. The input is real code:
the text files of the Python standard library and of the packages installed here. The tokenizer is a byte-level BPE of
32,768 entries with GPT-2's words (gigatoken takes neither StarCoder's nor ours), trained on a sample of the input.

All are run in turn, whole processes from start to end; shown are medians of MB/s (input file over wall time), the ratio
to ours, and the highest sum of resident memory over the process tree, looked at every 20 ms (pages that processes
share count in each). The slow peer runs once.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".pyi", ".h", ".hpp", ".cpp", ".c", ".cu", ".cuh", ".js", ".ts", ".md", ".txt", ".json", ".yaml", ".html", ".css", ".sh", ".rst", ".pyx"}
LONGEST = 2_000_000  # bytes of a file; the few longer ones are tables


def code() -> Iterator[str]:
    """The text files of this Python's library and packages."""
    for root in (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]):
        for path in sorted(Path(root).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= LONGEST:
                try:
                    yield path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue


def write_input(path: Path, size: int) -> int:
    """JSON lines of at least ``size`` bytes, the files over again where there are too few; the number of rows."""
    rows = written = 0
    with path.open("w") as file:
        while written < size:
            for text in code():
                written += file.write(json.dumps({"text": text}) + "\n")
                rows += 1
                if written >= size:
                    break
    return rows


def train(folder: Path, source: Path) -> None:
    """A tokenizer of every 20th row."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = AddedToken("<|endoftext|>", special=True, normalized=False)
    trainer = trainers.BpeTrainer(vocab_size=32_768, special_tokens=[end], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    with source.open() as file:
        tokenizer.train_from_iterator((json.loads(line)["text"] for i, line in enumerate(file) if i % 20 == 0), trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and the peak of the tree's resident memory, MB. Raises RuntimeError where the command fails."""
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{said.read()[-3000:]}")
    return seconds, peak / 1e6


def resident(pid: int) -> int:
    """Bytes resident in a process and those it started."""
    total = 0
    try:
        whole = psutil.Process(pid)
        for one in (whole, *whole.children(recursive=True)):
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0
    return total


def main() -> int:
    """Run all; 1 where bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megatron-lm", type=Path)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--skip-slow", action="store_true", help="leave out preprocess_data.py, which takes minutes")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = flags.input or folder / "input.jsonl"
        if flags.input is None:
            write_input(source, int(flags.megabytes * 1e6))
        tokenizer = flags.tokenizer or folder / "tokenizer"
        if flags.tokenizer is None:
            train(tokenizer, source)
        size = source.stat().st_size / 1e6
        print(f"{source.name}: {size:.1f} MB; {flags.workers} workers; {psutil.cpu_count()} CPUs", flush=True)
        common = ["--input", str(source), "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(tokenizer), "--append-eod"]
        ours = [sys.executable, str(ROOT / "tools" / "preprocess_data.py"), *common, "--workers", str(flags.workers), "--log-interval", "1000000"]
        runs = {"ours": (ours, {"PYTHONPATH": str(ROOT)})}
        if flags.megatron_lm:
            peer = {"PYTHONPATH": str(flags.megatron_lm), "CUDA_VISIBLE_DEVICES": ""}
            tools = flags.megatron_lm / "tools"
            runs["preprocess_data_fast.py"] = ([flags.peer_python, str(tools / "preprocess_data_fast.py"), *common, "--use-gigatoken"], peer)
            if not flags.skip_slow:
                runs["preprocess_data.py"] = ([flags.peer_python, str(tools / "preprocess_data.py"), *common, "--workers", str(flags.workers)], peer)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        peaks = dict.fromkeys(runs, 0.0)
        for turn in range(flags.repeat):
            for name, (command, environment) in runs.items():
                if name == "preprocess_data.py" and turn:
                    continue
                wall, peak = run([*command, "--output-prefix", str(folder / name)], environment)
                seconds[name].append(wall)
                peaks[name] = max(peaks[name], peak)
                print(f"  {name}: {wall:.2f} s, {peak:.0f} MB resident at most", flush=True)
        best = statistics.median(seconds["ours"])
        differ = 0
        for name, some in seconds.items():
            median = statistics.median(some)
            same = all(filecmp.cmp(folder / f"{name}_text_document{end}", folder / f"ours_text_document{end}", shallow=False) for end in (".bin", ".idx"))
            differ += not same
            bytes_said = "the same bytes" if same else "OTHER BYTES"
            print(f"{name:24} {size / median:8.2f} MB/s  ours is {median / best:6.2f}x as fast  {peaks[name]:7.0f} MB  {bytes_said}")
    return min(differ, 1)


if __name__ == "__main__":
    sys.exit(main())
