"""A model, a tokenizer and tiers of tokens small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard
from tokenizers import Tokenizer, models

from megatron_snow.artifacts.units import Duration
from megatron_snow.blend.documents import rows_path
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.tokens.writer import IndexedWriter
from megatron_snow.training.settings import LearningRate, OptimizerSettings, PhaseSettings, TrainSettings, ValidationSettings
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec

VOCABULARY = 200
MODEL = ModelSettings(hidden=64, ffn=128, layers=4, heads=4, kv_heads=2)
STEPS = 5


def phase(steps: int = STEPS, **changes: Any) -> PhaseSettings:
    """``steps`` steps of 8 sequences of 32 tokens in micro-batches of 1."""
    defaults: dict[str, Any] = {
        "blend": {"standard": 3.0, "high_quality": 1.0}, "tokens": steps * 8 * 32, "batch": 8, "micro_batch": 1, "sequence": 32,
        "learning_rate": LearningRate(peak=3e-3, warmup=Duration(amount=min(2, steps - 1), unit="steps")),
    }  # fmt: skip
    return PhaseSettings(**(defaults | changes))


def train(first: PhaseSettings | None = None, **changes: Any) -> TrainSettings:
    """fp32, a checkpoint every second step, ``heldout`` validated."""
    defaults: dict[str, Any] = {
        "phases": {"general": first or phase()}, "precision": "fp32", "timeout": 60,
        "optimizer": OptimizerSettings(epsilon=1e-6),  # 1e-8 would make visible steps of a rare token's rounding noise
        "checkpoint": CheckpointSettings(every=Duration(amount=2, unit="steps"), keep=9),
        "validation": ValidationSettings(samples=8, tiers=("heldout",)),
    }  # fmt: skip
    return TrainSettings(**(defaults | changes))


def spec(tokens: Path, work: Path, layout: Layout = Layout(), model: ModelSettings = MODEL, **changes: Any) -> RunSpec:  # noqa: B008 - frozen
    """A run of the general phase on one thread a rank."""
    work.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "train": train(), "phase": "general", "model": model, "vocabulary": VOCABULARY, "layout": layout, "seed": 7,
        "tokens": tokens, "previous": None, "work": work, "rendezvous": "", "threads": 1,
    }  # fmt: skip
    return RunSpec(**(defaults | changes))


def train_rank(rank: int, world: int, rendezvous: str, run: RunSpec) -> bool:
    """A job for ``ranks.run``: this rank's part of a run."""
    from megatron_snow.training.worker import RankNumbers, run_rank

    return run_rank(run.model_copy(update={"rendezvous": rendezvous}), RankNumbers(rank, world, rank), StopSignal())


def write_tokens(folder: Path) -> Path:
    """Four tiers of documents from a Markov chain: something to learn, and the same for everybody."""
    random = np.random.default_rng(5)
    following = random.integers(0, VOCABULARY, (VOCABULARY, 3))
    for tier in ("standard", "high_quality", "synthetic", "heldout"):
        (folder / tier).mkdir(parents=True)
        with IndexedWriter(folder / tier / "00000", np.dtype("<u2")) as out:
            for _ in range(60):
                token, document = int(random.integers(VOCABULARY)), []
                for _ in range(int(random.integers(20, 400))):
                    document.append(token)
                    token = int(following[token, random.integers(3)])
                out.add(np.array(document))
            out.finish()
    return folder


def write_languages(folder: Path, sizes: dict[str, int]) -> Path:
    """A held-out tier of documents of 25 tokens, ``sizes[language]`` tokens in all, with rows that name their languages: in two shards, mixed.

    The tokens of the n-th language are n x 20 ... n x 20 + 19.
    """
    random = np.random.default_rng(6)
    names = random.permutation([name for name, tokens in sizes.items() for _ in range(tokens // 25)])
    (folder / "heldout").mkdir(parents=True)
    for shard, part in enumerate(np.array_split(names, 2)):
        prefix = folder / "heldout" / f"{shard:05}"
        with IndexedWriter(prefix, np.dtype("<u2")) as out:
            for name in part:
                out.add(list(sizes).index(name) * 20 + random.integers(20, size=25))
            out.finish()
        rows = b"".join(orjson.dumps({"language": str(name)}) + b"\n" for name in part)
        rows_path(prefix).write_bytes(zstandard.compress(rows))
    return folder


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of ``VOCABULARY`` words."""
    folder.mkdir(parents=True, exist_ok=True)
    Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0")).save(str(folder / "tokenizer.json"))
    return folder
