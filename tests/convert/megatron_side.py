"""One rank that makes checkpoints with the training engine and says what the model answers: ``python megatron_side.py FOLDER RANK WORLD CASE...``.

A process of its own, as the CPU device shim of ``parallel`` has no way back.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.model.settings import ModelSettings

if TYPE_CHECKING:
    from megatron_snow.parallel.backend import Backend
    from megatron_snow.parallel.groups import Place
    from megatron_snow.parallel.settings import Layout

VOCABULARY = 300  # of the tokenizer; padded to 384
SEQUENCE = 32
MODELS = {
    "tied": ModelSettings(hidden=64, ffn=160, layers=2, heads=4, kv_heads=4, tied=True, init_std=0.1, rope_theta=5_000, norm_epsilon=1e-4),
    "grouped": ModelSettings(hidden=64, ffn=96, layers=2, heads=8, kv_heads=2, tied=False, init_std=0.1),
}


def run(folder: Path, rank: int, world: int, cases: list[str]) -> None:
    """Save each case into ``folder/case`` under tensor parallelism over ``world``; a single process also saves what the model answers."""
    from megatron_snow.parallel.backend import choose_backend
    from megatron_snow.parallel.groups import open_groups
    from megatron_snow.parallel.settings import Layout

    layout, backend = Layout(tensor=world), choose_backend(rank)
    backend.start(1)
    place = open_groups(layout, backend, rank, world, f"file://{folder}/meeting", 120)
    backend.seed(1)
    for case in cases:
        save(folder / case, MODELS[case], layout, backend, place)


def save(training: Path, model: ModelSettings, layout: Layout, backend: Backend, place: Place) -> None:
    """A model of uncommon weights through the engine's own save."""
    import torch

    from megatron_snow.checkpoint.engine import save as save_checkpoint
    from megatron_snow.checkpoint.store import FORMAT, Description
    from megatron_snow.model.initialise import initialise
    from megatron_snow.model.settings import padded_vocabulary
    from megatron_snow.training.engine import Engine
    from megatron_snow.training.settings import PhaseSettings, TrainSettings

    phase = PhaseSettings(blend={"standard": 1.0}, tokens=10**6, batch=place.world, sequence=SEQUENCE)
    vocabulary = padded_vocabulary(model, VOCABULARY)
    engine = Engine(TrainSettings(phases={"general": phase}, precision="fp32"), phase, model, vocabulary, layout, backend, place)
    initialise(engine.chunks, model, seed=3)
    (chunk,) = engine.chunks
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(chunk.named_parameters())):
            if weight.ndim == 1:  # fresh norms are all ones, which would hide a mix-up
                weight.copy_(torch.empty(weight.shape).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(number)))
    description = Description(
        format=FORMAT, phase="general", step=7, tokens=7 * SEQUENCE, model=model, vocabulary=vocabulary, sequence=SEQUENCE, precision="fp32",
        layout=layout, seed=1,
    )  # fmt: skip
    save_checkpoint(training, engine.chunks, engine.optimizer, description, keep=1, place=place)
    if place.world == 1:
        save_answers(training.with_suffix(".safetensors"), chunk, backend)


def save_answers(path: Path, chunk: Any, backend: Backend) -> None:
    """Tokens and the model's logits."""
    import torch
    from safetensors.torch import save_file

    tokens = torch.randint(0, VOCABULARY, (3, SEQUENCE), generator=torch.Generator().manual_seed(9)).to(backend.device)
    with torch.no_grad():
        logits = chunk.eval()(tokens, torch.arange(SEQUENCE, device=backend.device).expand(3, -1), None)
    save_file({"tokens": tokens.cpu(), "logits": logits.cpu().contiguous()}, path)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    sys.stdout.flush()
    os._exit(0)  # gloo's threads can outlive the interpreter's own end
