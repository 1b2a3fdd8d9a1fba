"""A training step on the CPU beside a Hugging Face LlamaForCausalLM loop: ``python bench/cpu_training.py [--precision bf16|fp32] [--rounds 5]``.

Same shape (10.1M parameters: 8 layers, width 256, SwiGLU 704, 8 heads, 4 key/value heads, vocabulary 8192, untied), same
weight count, same tokens, sequence 512. Each side keeps a process of its own, and they work in turn, never at once: a
round runs every batch size of both. Printed are medians in tokens a second of wall time and of CPU time, and the ratio
of our best batch size to theirs.

The loop beside: the model in the precision, scaled_dot_product_attention, gradient clipping, fused AdamW. In bf16 its
weights and moments are bf16; ours keep fp32 main weights, moments and gradients beside, so ours does more for a step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, VOCABULARY, SEQUENCE = 8, 256, 704, 8, 4, 8192, 512
BATCHES = (1, 8, 32)
TOKENS_A_ROUND = 32 * SEQUENCE
RATE = 3e-4
Step = Callable[[int, Any], float]


def ours(precision: str, threads: int) -> Step:
    """A step of the engine users train with: (batch size, rows [batch, sequence + 1]) -> loss."""
    from megatron_snow.artifacts.units import Duration
    from megatron_snow.model.initialise import initialise
    from megatron_snow.model.settings import ModelSettings
    from megatron_snow.parallel.backend import choose_backend
    from megatron_snow.parallel.groups import open_groups
    from megatron_snow.parallel.settings import Layout
    from megatron_snow.training.engine import Engine
    from megatron_snow.training.settings import LearningRate, PhaseSettings, TrainSettings

    backend = choose_backend(0)
    backend.start(threads)
    place = open_groups(Layout(), backend, 0, 1, f"file://{tempfile.mkdtemp()}/meeting", 60)
    backend.seed(1)
    model = ModelSettings(hidden=HIDDEN, ffn=FFN, layers=LAYERS, heads=HEADS, kv_heads=KV_HEADS, tied=False)
    rate = LearningRate(peak=RATE, warmup=Duration(amount=0, unit="steps"))
    phase = PhaseSettings(blend={"standard": 1.0}, tokens=10**9, batch=8, sequence=SEQUENCE, learning_rate=rate)
    engine = Engine(TrainSettings(phases={"general": phase}, precision=precision), phase, model, VOCABULARY, Layout(), backend, place)  # type: ignore[arg-type]
    initialise(engine.chunks, model, seed=1)
    engine.optimizer.reload_model_params()

    def step(batch: int, rows: Any) -> float:
        import torch

        positions = torch.arange(SEQUENCE).expand(batch, -1).contiguous()
        return engine.step([{"tokens": rows[:, :-1].contiguous(), "labels": rows[:, 1:].contiguous(), "positions": positions}], RATE, 1, False)[0]

    return step


def hugging_face(precision: str, threads: int) -> Step:
    """A step of the plain loop."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    llama: Any = LlamaConfig
    config = llama(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False, max_position_embeddings=SEQUENCE,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).train()
    model.to(torch.float32 if precision == "fp32" else torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(batch: int, rows: Any) -> float:
        optimizer.zero_grad()
        loss = model(input_ids=rows[:, :-1], labels=rows[:, :-1], shift_labels=rows[:, 1:].contiguous()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


SIDES = {"ours": ours, "hugging face": hugging_face}


def work(side: str, precision: str, threads: int, pipe: Connection) -> None:
    """Answer (batch size, round) with (wall seconds, CPU seconds, last loss) of ``TOKENS_A_ROUND`` tokens, until told 0."""
    import torch

    step = SIDES[side](precision, threads)
    while batch := pipe.recv():
        count = TOKENS_A_ROUND // (batch * SEQUENCE)
        rows = torch.randint(0, VOCABULARY, (count, batch, SEQUENCE + 1), generator=torch.Generator().manual_seed(batch))
        wall, cpu = time.perf_counter(), time.process_time()
        for one in rows:
            loss = step(batch, one)
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, loss))


def main() -> None:
    """Run both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", TORCHDYNAMO_DISABLE="1", OMP_NUM_THREADS=str(options.threads))
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for side in SIDES:
        pipes[side], theirs = context.Pipe()
        context.Process(target=work, args=(side, options.precision, options.threads, theirs), daemon=True).start()
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for number in range(options.rounds + 1):
        for batch in options.batches:
            for side, pipe in pipes.items():
                pipe.send(batch)
                wall, cpu, loss = pipe.recv()
                if number:  # the first round warms up
                    taken.setdefault((side, batch), []).append((TOKENS_A_ROUND / wall, TOKENS_A_ROUND / cpu))
                print(
                    f"round {number} {side} batch {batch}: {TOKENS_A_ROUND / wall:.0f} tokens/s, {TOKENS_A_ROUND / cpu:.0f} a CPU s, loss {loss:.3f}",
                    flush=True,
                )
    for kind, name in enumerate(("wall", "CPU")):
        medians = {key: statistics.median(rates[kind] for rates in values) for key, values in taken.items()}
        best = {side: max((rate, batch) for (one, batch), rate in medians.items() if one == side) for side in SIDES}
        print(f"{options.precision}, tokens a {name} second: " + ", ".join(f"{side} batch {batch} {rate:.0f}" for (side, batch), rate in medians.items()))
        print(
            f"  best: ours {best['ours'][0]:.0f} (batch {best['ours'][1]}), Hugging Face {best['hugging face'][0]:.0f} (batch {best['hugging face'][1]}): "
            f"{best['ours'][0] / best['hugging face'][0]:.3f}x"
        )


if __name__ == "__main__":
    main()
