"""Training the 1.3B shape on one GPU: ours in bf16 and each FP8 recipe, and a compiled plain Llama loop beside them.

    python bench/gpu_training.py [--sequence 4096 8192] [--steps 16] [--only bf16 delayed tensorwise blockwise plain]

Every run trains from the same fresh weights on the same real code (this Python's standard library, under a tokenizer of
64,000 entries trained on it here), with AdamW and clipping. Printed for each: tokens/s (median step), model TFLOP/s and
their share of the card's dense bf16 peak (MFU; FP8 runs too, so that they compare), peak memory beside what ``snow plan``
expects, and the mean loss of the last five steps with its difference from our bf16 (the plain loop draws other weights).
FLOPs a token: ``model.settings``, that is 6 x (matrix weights + vocabulary x hidden) + 6 x layers x hidden x sequence for
causal attention, nothing for recomputation. Needs megatron-core, Transformer Engine and a CUDA device; the plain loop only torch.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NVTE_FRAMEWORK", "pytorch")
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # NVIDIA data sheets, SXM, dense bf16
MICRO = {4096: 4, 8192: 2}  # sequences a forward pass: 16,384 tokens, what 80 GB hold without recomputation
STEP_TOKENS = 65_536  # four micro-batches a step
WARM = 5  # steps left out of the timing: compilation, cuDNN's choice, the allocator
VOCABULARY = 64_000


def code_tokens(limit: int) -> Any:
    """Token ids of the standard library's source, int32 [limit], tokenised by a BPE trained on it."""
    import numpy as np
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    texts = [text for file in files if "site-packages" not in file.parts and (text := file.read_text(errors="ignore"))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False))
    ids = np.concatenate([np.array(one.ids, np.int32) for one in tokenizer.encode_batch(texts)])
    return np.tile(ids, -(-limit // len(ids)))[:limit]


class Rows:
    """The tokens as samples: int64 [sequence + 1] each."""

    def __init__(self, tokens: Any, sequence: int) -> None:
        self.rows = tokens[: len(tokens) // (sequence + 1) * (sequence + 1)].reshape(-1, sequence + 1).astype("int64")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index % len(self.rows)]

    def sample(self, i: int) -> Any:
        """Each row is one document."""
        import numpy as np

        from megatron_snow.blend.sample import Sample

        tokens = self[i]
        return Sample(tokens, np.array([0, len(tokens)]), locate=list)


def rate(step: int) -> float:
    """Learning rate: ten steps of warm-up, then constant."""
    return 3e-4 * min(1.0, (step + 1) / 10)


def train_ours(name: str, sequence: int, steps: int, tokens: Any, backend: Any, place: Any) -> dict[str, Any]:
    """One configuration through the engine users train with; the process groups are open."""
    import torch

    from megatron_snow.model.settings import ModelSettings, padded_vocabulary
    from megatron_snow.parallel.settings import Fp8Settings, Layout
    from megatron_snow.training.batches import Batches
    from megatron_snow.training.engine import Engine
    from megatron_snow.training.memory import estimate_memory
    from megatron_snow.training.settings import PhaseSettings, TrainSettings

    recipe, _, extra = name.partition("+")
    model, batch, micro = ModelSettings(), STEP_TOKENS // sequence, MICRO[sequence]
    phase = PhaseSettings(blend={"standard": 1.0}, tokens=500_000_000_000, batch=batch, micro_batch=micro, sequence=sequence)
    fp8 = Fp8Settings() if recipe == "bf16" else Fp8Settings(recipe=recipe, parameters=extra == "parameters", format="e4m3" if extra == "e4m3" else "hybrid")
    settings = TrainSettings(precision="bf16" if recipe == "bf16" else "fp8", fp8=fp8)
    vocabulary = padded_vocabulary(model, VOCABULARY)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    backend.check_precision(settings.precision, settings.fp8)
    engine = Engine(settings, phase, model, vocabulary, Layout(), backend, place)
    generator = torch.Generator("cuda").manual_seed(1)
    with torch.no_grad():
        for parameter in engine.chunks[0].parameters():
            fresh = (
                torch.ones(parameter.shape, device="cuda") if parameter.dim() == 1 else 0.02 * torch.randn(parameter.shape, generator=generator, device="cuda")
            )
            parameter.copy_(fresh)
    del fresh
    engine.optimizer.reload_model_params()
    batches = Batches(Rows(tokens, sequence), phase.samples_of, micro, VOCABULARY, place, backend)
    losses, seconds = [], []
    for step in range(steps):
        micro_batches = batches.step(step)
        torch.cuda.synchronize()
        began = time.perf_counter()
        losses.append(engine.step(micro_batches, rate(step), step + 1, False)[0])
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    planned = estimate_memory(model, vocabulary, phase, Layout(), settings.precision, "none", 1)
    return {**_row(name, sequence, losses, seconds), "planned": planned.total / 2**30}


def train_plain(sequence: int, steps: int, tokens: Any) -> dict[str, Any]:
    """The compiled plain loop (bench/plain_llama.py) on the same tokens."""
    import torch
    from plain_llama import PlainTraining

    batch, micro = STEP_TOKENS // sequence, MICRO[sequence]
    torch.cuda.reset_peak_memory_stats()
    training = PlainTraining(VOCABULARY, sequence)
    rows = Rows(tokens, sequence)
    losses, seconds = [], []
    for step in range(steps):
        chunks = [[rows[step * batch + start + i] for i in range(micro)] for start in range(0, batch, micro)]
        torch.cuda.synchronize()
        began = time.perf_counter()
        losses.append(training.step(chunks, rate(step)))
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return _row("plain", sequence, losses, seconds)


def _row(name: str, sequence: int, losses: list[float], seconds: list[float]) -> dict[str, Any]:
    import torch

    from megatron_snow.model.settings import ModelSettings, flops_per_token

    speed = STEP_TOKENS / statistics.median(seconds[WARM:])
    flops = speed * flops_per_token(ModelSettings(), VOCABULARY, sequence)
    peak = next((value for card, value in PEAK.items() if card in torch.cuda.get_device_name()), float("nan"))
    return {
        "run": name, "sequence": sequence, "tokens_per_second": speed, "tflops": flops / 1e12, "mfu": flops / peak,
        "memory": torch.cuda.max_memory_allocated() / 2**30, "loss": statistics.mean(losses[-5:]), "first": losses[0], "steps": len(losses),
    }  # fmt: skip


def child(kind: str, arguments: argparse.Namespace, out: Path) -> None:
    """Run what belongs in one process and append a row a run to ``out``."""
    import numpy as np
    import torch

    tokens = np.load(out.with_suffix(".npy"))
    runs = [name for name in arguments.only if (name == "plain") == (kind == "plain")]
    backend = place = None
    if kind == "ours":
        from megatron_snow.parallel.backend import choose_backend

        backend = choose_backend(0)
        backend.start(8)
        from megatron_snow.parallel.groups import open_groups
        from megatron_snow.parallel.settings import Layout

        place = open_groups(Layout(), backend, 0, 1, f"file://{tempfile.mkdtemp()}/meeting", 600)
        backend.seed(1)
    for sequence in arguments.sequence:
        for name in runs:
            try:
                row = train_plain(sequence, arguments.steps, tokens) if kind == "plain" else train_ours(name, sequence, arguments.steps, tokens, backend, place)
            except Exception as error:  # one configuration that fails must not hide the others
                row = {"run": name, "sequence": sequence, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
                if arguments.trace:
                    import traceback

                    traceback.print_exc()
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name} at {sequence}: {row.get('error') or format(row['tokens_per_second'], ',.0f') + ' tokens/s'}", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    if kind == "ours":
        from megatron_snow.parallel.groups import close_groups

        close_groups()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, ratios to own bf16 and to the plain loop of the same sequence."""
    lines = [f"{'run':<22} {'seq':>5} {'tokens/s':>9} {'TFLOP/s':>8} {'MFU':>6} {'GiB':>6} {'plan':>6} {'loss':>7} {'vs bf16':>8} {'x bf16':>7} {'x plain':>7}"]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['run']:<22} {row['sequence']:>5} failed: {row['error']}")
            continue
        own, plain = (next((r for r in rows if r["run"] == name and r["sequence"] == row["sequence"] and "error" not in r), None) for name in ("bf16", "plain"))
        ratios = [f"{row['tokens_per_second'] / other['tokens_per_second']:>7.2f}" if other else f"{'':>7}" for other in (own, plain)]
        apart = f"{row['loss'] - own['loss']:>+8.4f}" if own else f"{'':>8}"
        lines.append(
            f"{row['run']:<22} {row['sequence']:>5} {row['tokens_per_second']:>9,.0f} {row['tflops']:>8.0f} {row['mfu']:>6.1%} {row['memory']:>6.1f} "
            f"{format(row['planned'], '6.1f') if 'planned' in row else '':>6} "
            f"{row['loss']:>7.4f} {apart} {' '.join(ratios)}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run every configuration in two child processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequence", type=int, nargs="+", default=[4096, 8192], choices=sorted(MICRO))
    parser.add_argument("--steps", type=int, default=14, help="of each run; 14 keep all ten runs inside six minutes")
    parser.add_argument("--only", nargs="+", default=["bf16", "delayed", "tensorwise", "blockwise", "plain"], help="RECIPE, RECIPE+parameters, RECIPE+e4m3")
    parser.add_argument("--trace", action="store_true", help="print the traceback of a run that fails")
    parser.add_argument("--child", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gpu_training.jsonl", help="rows as JSON lines")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments, arguments.out)
        return 0
    import numpy as np
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured", file=sys.stderr)
        return 2
    if arguments.steps <= WARM:
        parser.error(f"--steps {arguments.steps}: the first {WARM} are warm-up, give more")
    arguments.out.unlink(missing_ok=True)
    np.save(arguments.out.with_suffix(".npy"), code_tokens(arguments.steps * STEP_TOKENS * 9 // 8))
    for kind in ("ours", "plain"):
        if any((name == "plain") == (kind == "plain") for name in arguments.only):
            subprocess.run([sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--child", kind, "--out", str(arguments.out)], check=False)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    core = importlib.metadata.version("megatron-core")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, megatron-core {core}")
    print(f"{arguments.steps} steps of {STEP_TOKENS:,} tokens, MFU of the dense bf16 peak")
    print(table(rows))
    return int(len(rows) < len(arguments.only) * len(arguments.sequence) or any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
