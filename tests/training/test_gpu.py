"""The engine on a CUDA device: against Hugging Face's Llama in fp32, FP8 recipes, checkpoints, the arrow itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import latest, read_description, step_folder
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Fp8Settings, Layout
from megatron_snow.training.records import METRICS, read_rows
from megatron_snow.training.settings import OptimizerSettings
from tests.gpu import needs_gpu, needs_transformer_engine
from tests.training import small, spikes
from tests.training.steps import Given

MODEL = ModelSettings(hidden=512, ffn=1024, layers=4, heads=8, kv_heads=4, tied=False)
VOCABULARY, SEQUENCE, STEPS = 1024, 512, 10
WIDE = small.MODEL.model_copy(update={"hidden": 128})  # a head of 32, what the card's attention kernels take
RATE = 3e-4  # small enough that rounding does not decide where ten steps lead


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """The CUDA backend and the groups of a single process."""
    from megatron_snow.parallel.backend import choose_backend

    backend = choose_backend(0)
    backend.start(4)
    from megatron_snow.parallel.groups import close_groups, open_groups

    place = open_groups(Layout(), backend, 0, 1, f"file://{tmp_path_factory.mktemp('meeting') / 'meeting'}", 120)
    backend.seed(1)
    yield backend, place
    close_groups()


def rows(step: int) -> torch.Tensor:
    """[4, sequence + 1] tokens with something to learn: a noisy walk."""
    generator = torch.Generator().manual_seed(step)
    walk = torch.randint(1, 4, (4, SEQUENCE + 1), generator=generator).cumsum(1)
    return (walk + torch.randint(VOCABULARY, (4, 1), generator=generator)) % VOCABULARY


def micro_batches(step: int) -> list[dict[str, torch.Tensor]]:
    positions = torch.arange(SEQUENCE, device="cuda").expand(2, -1).contiguous()
    return [{"tokens": half[:, :-1].contiguous(), "labels": half[:, 1:].contiguous(), "positions": positions} for half in rows(step).cuda().chunk(2)]


def engine_of(joined: tuple[Any, Any], precision: str, fp8: Fp8Settings = Fp8Settings()) -> Any:  # noqa: B008 - frozen
    """An engine with the fresh weights of seed 1."""
    from megatron_snow.model.initialise import initialise
    from megatron_snow.training.engine import Engine

    backend, place = joined
    settings = small.train(precision=precision, fp8=fp8, optimizer=OptimizerSettings(epsilon=1e-6))
    engine = Engine(settings, small.phase(sequence=SEQUENCE, micro_batch=2, batch=4, tokens=10**6), MODEL, VOCABULARY, Layout(), backend, place)
    initialise(engine.chunks, MODEL, seed=1)
    engine.optimizer.reload_model_params()
    return engine


def train(engine: Any, first: int = 0, last: int = STEPS) -> list[float]:
    return [engine.step(micro_batches(step), RATE, step + 1, False)[0] for step in range(first, last)]


def hugging_face_model(engine: Any) -> Any:
    """Hugging Face's Llama in fp32 with the engine's fresh weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from megatron_snow.convert.llama import megatron_to_hugging_face
    from megatron_snow.model.initialise import full_tensor, sharded_parts

    config = LlamaConfig(
        hidden_size=MODEL.hidden, intermediate_size=MODEL.ffn, num_hidden_layers=MODEL.layers, num_attention_heads=MODEL.heads,
        num_key_value_heads=MODEL.kv_heads, vocab_size=VOCABULARY, tie_word_embeddings=False, rms_norm_eps=MODEL.norm_epsilon, max_position_embeddings=SEQUENCE,
    )  # fmt: skip
    model = LlamaForCausalLM(config).cuda().float()
    weights: dict[str, torch.Tensor] = {}
    for _, parts in sharded_parts(engine.chunks[0]):
        weights |= megatron_to_hugging_face(parts[0].key, full_tensor(parts[0].key, tuple(parts[0].global_shape), MODEL, 1), MODEL, VOCABULARY)
    model.load_state_dict(weights)
    return model


def hugging_face_losses(engine: Any) -> list[float]:
    """The same steps by a plain fp32 loop."""
    model = hugging_face_model(engine)
    decayed, kept = [p for p in model.parameters() if p.dim() > 1], [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}], lr=RATE, betas=(0.9, 0.95), eps=1e-6)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        tokens = rows(step).cuda()
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@needs_transformer_engine
def test_bf16_follows_an_fp32_hugging_face_loop(joined: tuple[Any, Any]) -> None:
    engine = engine_of(joined, "bf16")
    expected, found = hugging_face_losses(engine), train(engine)
    assert expected[-1] < expected[0] - 0.1
    assert found == pytest.approx(expected, rel=5e-3)  # bf16 holds 8 bits: 0.4 %


@needs_gpu
def test_the_torch_layers_run_on_cuda_too(joined: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = joined
    monkeypatch.setattr(backend, "transformer_engine", False)
    engine = engine_of(joined, "fp32")
    assert train(engine) == pytest.approx(hugging_face_losses(engine), rel=1e-3)  # fp32 products of other kernels


STARTS = np.array([0, 200, 201, 350, SEQUENCE])
"""Documents of 200, 1, 149 and 162 tokens."""


@needs_transformer_engine
def test_packed_documents_are_kept_apart_by_transformer_engine(joined: tuple[Any, Any]) -> None:
    """Perturbing the first leaves the others' logits as they are; each is what Hugging Face makes of it alone."""
    from megatron_snow.training.batches import Batches

    engine = engine_of(joined, "bf16")
    tokens = rows(0)[0].numpy()
    perturbed = np.concatenate([(tokens[: STARTS[1]] + 7) % VOCABULARY, tokens[STARTS[1] :]])
    seen = []
    for given in (tokens, perturbed):
        [batch] = Batches(Given(given, STARTS), range, 1, VOCABULARY, joined[1], joined[0], apart=True).step(1)
        with torch.no_grad():
            seen.append(engine.chunks[0](batch["tokens"], batch["positions"], None, packed_seq_params=batch["packed"])[0].float())
    assert not torch.equal(seen[0][: STARTS[1]], seen[1][: STARTS[1]])
    assert torch.equal(seen[0][STARTS[1] :], seen[1][STARTS[1] :])
    model = hugging_face_model(engine)
    for start, end in pairwise(STARTS.tolist()):
        with torch.no_grad():
            alone = model(torch.from_numpy(tokens[None, start:end]).cuda()).logits[0]
        assert (seen[0][start:end] - alone).norm() < 0.02 * alone.norm()  # bf16 holds 8 bits, and there are four layers


FP8 = {
    "delayed": Fp8Settings(recipe="delayed"),
    "tensorwise": Fp8Settings(recipe="tensorwise"),
    "blockwise": Fp8Settings(recipe="blockwise"),
    "e4m3": Fp8Settings(recipe="blockwise", format="e4m3"),
    "bf16 ends": Fp8Settings(recipe="tensorwise", bf16_first=1, bf16_last=1),
    "tensorwise parameters": Fp8Settings(recipe="tensorwise", parameters=True),
    "blockwise parameters": Fp8Settings(recipe="blockwise", parameters=True),
}


@pytest.fixture(scope="module")
def bf16_losses(joined: tuple[Any, Any]) -> list[float]:
    return train(engine_of(joined, "bf16"))


@needs_transformer_engine
@pytest.mark.parametrize("name", FP8)
def test_fp8_trains_and_is_really_fp8(name: str, joined: tuple[Any, Any], bf16_losses: list[float]) -> None:
    engine = engine_of(joined, "fp8", FP8[name])
    if FP8[name].parameters:
        assert any("Float8" in type(parameter.data).__name__ or "Float8" in type(parameter).__name__ for parameter in engine.chunks[0].parameters())
    losses = train(engine)
    assert losses == pytest.approx(bf16_losses, rel=0.03)  # ours: what e4m3's 3 bits do to a loss in ten steps
    assert losses[0] != bf16_losses[0]  # megatron-core without Transformer Engine would train in bf16 and say nothing


@needs_transformer_engine
@pytest.mark.parametrize("name", ["bf16", "tensorwise", "tensorwise parameters"])
def test_a_checkpoint_resumes(name: str, joined: tuple[Any, Any], tmp_path: Path) -> None:
    from megatron_snow.checkpoint.engine import load, save
    from megatron_snow.checkpoint.store import FORMAT, Description

    precision = "bf16" if name == "bf16" else "fp8"
    fp8 = FP8.get(name, Fp8Settings())
    engine = engine_of(joined, precision, fp8)
    train(engine, 0, 3)
    description = Description(
        format=FORMAT, phase="general", step=3, tokens=3, model=MODEL, vocabulary=VOCABULARY, sequence=SEQUENCE, precision="bf16", layout=Layout(), seed=1
    )
    save(tmp_path, engine.chunks, engine.optimizer, description, 1, joined[1])
    expected = train(engine, 3, 6)
    other = engine_of(joined, precision, fp8)
    load(step_folder(tmp_path, 3), other.chunks, other.optimizer, description, joined[1])
    assert train(other, 3, 6) == (expected if name == "bf16" else pytest.approx(expected, rel=2e-3))


@needs_transformer_engine
def test_the_arrow_trains_and_goes_on(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from megatron_snow.training import train_phase

    settings = small.train(small.phase(steps=4, micro_batch=4), precision="fp8", checkpoint=CheckpointSettings(every=Duration(amount=2, unit="steps"), keep=2))
    summary = train_phase(settings, "general", WIDE, Layout(), 7, tokens, tokenizer, None, tmp_path)
    whole = read_rows(tmp_path / METRICS)
    assert summary["steps"] == 4 and whole[-1]["loss"] < whole[0]["loss"]
    newest = latest(tmp_path)
    assert newest is not None
    expected = dict(read_weights(newest))
    shutil.rmtree(newest)  # as if the run had been killed before it saved
    train_phase(settings, "general", WIDE, Layout(), 7, tokens, tokenizer, None, tmp_path)
    resumed = latest(tmp_path)
    assert resumed == newest
    for name, weight in read_weights(resumed):
        torch.testing.assert_close(weight, expected[name], atol=2e-3, rtol=1e-2)


@needs_transformer_engine
def test_a_copy_saved_beside_training_is_what_a_save_that_waits_writes(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from megatron_snow.training import train_phase

    written = []
    for asynchronous in (False, True):
        policy = CheckpointSettings(every=Duration(amount=1, unit="steps"), keep=9, asynchronous=asynchronous)
        work = tmp_path / str(asynchronous)
        settings = small.train(small.phase(steps=6, micro_batch=4), precision="bf16", checkpoint=policy)
        train_phase(settings, "general", WIDE, Layout(), 7, tokens, tokenizer, None, work)
        written.append([read_description(step_folder(work, step)).files for step in range(1, 7)])
    assert written[0] == written[1]  # names, sizes and checksums of weights and optimizer state


@needs_transformer_engine
def test_roll_back_goes_on_from_the_last_checkpoint(tokenizer: Path, tmp_path: Path) -> None:
    from megatron_snow.training import train_phase

    tokens = spikes.write_corrupted(tmp_path / "tokens")
    settings = spikes.settings("roll_back").model_copy(update={"precision": "bf16"})
    train_phase(settings, "general", WIDE, Layout(), 7, tokens, tokenizer, None, tmp_path / "work")
    rows = read_rows(tmp_path / "work" / METRICS)
    assert [row["step"] for row in rows] == list(range(1, spikes.STEPS + 1))
    assert (rows[spikes.BAD]["action"], rows[spikes.BAD]["rolled_back_to"]) == ("roll_back", 20)
    assert sum("anomaly" in row for row in rows) == 1
    after = [row["loss"] for row in rows[spikes.BAD + 1 :]]
    shutil.copytree(step_folder(tmp_path / "work", 20), step_folder(tmp_path / "again", 20))  # a run that rolls back from there by itself
    shutil.copy(tmp_path / "work" / METRICS, tmp_path / "again" / METRICS)
    train_phase(settings, "general", WIDE, Layout(), 7, tokens, tokenizer, None, tmp_path / "again")
    assert [row["loss"] for row in read_rows(tmp_path / "again" / METRICS)[spikes.BAD + 1 :]] == after
