"""One rank that makes checkpoints with the training engine and says what the model answers: a job for ``tests.training.ranks``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.model.settings import ModelSettings
from tests.training import ranks

if TYPE_CHECKING:
    from megatron_snow.parallel.backend import Backend
    from megatron_snow.parallel.groups import Place
    from megatron_snow.parallel.settings import Layout

VOCABULARY = 300  # of the tokenizer; padded to 384
SEQUENCE = 32
MODELS = {
    "tied": ModelSettings(hidden=64, ffn=160, layers=2, heads=4, kv_heads=4, tied=True, init_std=0.1, rope_theta=5_000, norm_epsilon=1e-4),
    "grouped": ModelSettings(hidden=64, ffn=96, layers=2, heads=8, kv_heads=2, tied=False, init_std=0.1),
    "biases": ModelSettings(hidden=64, ffn=96, layers=2, heads=4, kv_heads=2, tied=True, init_std=0.1, head_dim=24, qkv_bias=True),
}


def run(rank: int, world: int, rendezvous: str, folder: Path, cases: list[str]) -> None:
    """Save each case into ``folder/case`` under tensor parallelism over ``world``; a single process also saves what the model answers."""
    from megatron_snow.parallel.settings import Layout

    layout = Layout(tensor=world)
    backend, place = ranks.joined(layout, rank, world, rendezvous)
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
            if weight.ndim == 1:  # fresh norms are all ones, biases all zeros, which would hide a mix-up
                parts = layout.tensor if weight.shape[0] != model.hidden else 1  # biases are split over the tensor ranks, norms are not
                whole = torch.empty(weight.shape[0] * parts).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(number))
                weight.copy_(whole.chunk(parts)[place.tensor_rank if parts > 1 else 0])
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
