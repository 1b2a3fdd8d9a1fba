"""The engine against a plain loop: Hugging Face's Llama, torch's AdamW, torch's clipping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from megatron_snow.model.initialise import full_tensor
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.settings import OptimizerSettings
from tests.training import ranks, small

MODEL = ModelSettings(hidden=64, ffn=96, layers=2, heads=4, kv_heads=2, tied=False, init_std=0.1)
OPTIMIZER = OptimizerSettings(weight_decay=0.5, clip=0.25, beta2=0.9, epsilon=1e-4)  # large: a gradient of rounding noise must not become a whole step
RATES = [1e-2, 2e-2, 5e-3]
VOCABULARY = 128


def rows(step: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (4, 17), generator=torch.Generator().manual_seed(step))


def engine_run(rank: int, world: int, rendezvous: str) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms and final weights (by global name) of three steps in two micro-batches."""
    from megatron_snow.model.initialise import initialise, sharded_parts
    from megatron_snow.training.engine import Engine

    backend, place = ranks.joined(Layout(), rank, world, rendezvous)
    engine = Engine(small.train(optimizer=OPTIMIZER), small.phase(sequence=16), MODEL, VOCABULARY, Layout(), backend, place)
    initialise(engine.chunks, MODEL, seed=1)
    engine.optimizer.reload_model_params()
    losses, norms = [], []
    for step, rate in enumerate(RATES):
        positions = torch.arange(16).expand(2, -1).contiguous()
        batches = [{"tokens": half[:, :-1].contiguous(), "labels": half[:, 1:].contiguous(), "positions": positions} for half in rows(step).chunk(2)]
        loss, norm, _ = engine.step(batches, rate, step + 1, False)
        losses.append(loss)
        norms.append(norm)
    return losses, norms, {parts[0].key: weight.detach().clone() for weight, parts in sharded_parts(engine.chunks[0])}


def to_llama(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our names and shapes to Hugging Face's."""
    out = {
        "model.embed_tokens.weight": weights["embedding.word_embeddings.weight"],
        "model.norm.weight": weights["decoder.final_layernorm.weight"],
        "lm_head.weight": weights["output_layer.weight"],
    }
    size = MODEL.head_size
    for layer in range(MODEL.layers):
        ours, theirs = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        groups = weights[ours + "self_attention.linear_qkv.weight"].view(MODEL.kv_heads, -1, size, MODEL.hidden)
        query, key, value = groups.split([MODEL.heads // MODEL.kv_heads, 1, 1], dim=1)
        for name, part in (("q", query), ("k", key), ("v", value)):
            out[f"{theirs}self_attn.{name}_proj.weight"] = part.reshape(-1, MODEL.hidden)
        out[theirs + "self_attn.o_proj.weight"] = weights[ours + "self_attention.linear_proj.weight"]
        out[theirs + "mlp.gate_proj.weight"], out[theirs + "mlp.up_proj.weight"] = weights[ours + "mlp.linear_fc1.weight"].chunk(2)
        out[theirs + "mlp.down_proj.weight"] = weights[ours + "mlp.linear_fc2.weight"]
        out[theirs + "input_layernorm.weight"] = weights[ours + "self_attention.linear_qkv.layer_norm_weight"]
        out[theirs + "post_attention_layernorm.weight"] = weights[ours + "mlp.linear_fc1.layer_norm_weight"]
    return out


def plain_run(fresh: dict[str, torch.Tensor]) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    config: Any = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=MODEL.hidden, intermediate_size=MODEL.ffn, num_hidden_layers=MODEL.layers, num_attention_heads=MODEL.heads,
        num_key_value_heads=MODEL.kv_heads, tie_word_embeddings=False, rms_norm_eps=MODEL.norm_epsilon, rope_theta=float(MODEL.rope_theta),
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(to_llama(fresh))
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    norms = [weight for weight in model.parameters() if weight.dim() == 1]
    adam = {"betas": (OPTIMIZER.beta1, OPTIMIZER.beta2), "eps": OPTIMIZER.epsilon}
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": OPTIMIZER.weight_decay}, {"params": norms, "weight_decay": 0.0}], **adam)  # type: ignore[arg-type]
    losses, gradient_norms = [], []
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(rows(step)[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows(step)[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        gradient_norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip)))
        optimizer.step()
        losses.append(float(loss))
    return losses, gradient_norms, dict(model.state_dict())


def test_three_steps_are_those_of_a_plain_loop() -> None:
    losses, norms, weights = ranks.run(engine_run, 1)[0]
    fresh = {name: full_tensor(name, tuple(weight.shape), MODEL, seed=1) for name, weight in weights.items()}
    expected_losses, expected_norms, expected = plain_run(fresh)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert norms == pytest.approx(expected_norms, rel=1e-5)
    assert min(norms) > OPTIMIZER.clip  # clipping was at work
    for name, weight in to_llama(weights).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-5, msg=name)
