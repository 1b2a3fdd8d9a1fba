from __future__ import annotations

import pytest
import torch

from megatron_snow.model.initialise import full_tensor
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from tests.training import ranks, small

Part = tuple[tuple[int, ...], torch.Tensor]


def fresh_weights(rank: int, world: int, rendezvous: str, layout: Layout, model: ModelSettings) -> list[tuple[str, Part]]:
    """(name, (offset, values)) of every part of this rank."""
    from megatron_snow.model.build import build_chunks, transformer_config
    from megatron_snow.model.initialise import initialise, sharded_parts

    backend, _ = ranks.joined(layout, rank, world, rendezvous)
    config = transformer_config(model, layout, backend, "fp32", "none")
    chunks = build_chunks(config, model, 256, 32, layout, backend)
    initialise(chunks, model, seed=3)
    return [(part.key, (tuple(part.global_offset), part.data.detach().clone())) for chunk in chunks for _, parts in sharded_parts(chunk) for part in parts]


@pytest.mark.parametrize(
    ("layout", "world", "tied"),
    [(Layout(), 1, True), (Layout(tensor=2, pipeline=2), 4, False), (Layout(pipeline=2, virtual_pipeline=2), 2, True), (Layout(data=2), 2, True)],
)
def test_weights_do_not_depend_on_the_layout(layout: Layout, world: int, tied: bool) -> None:
    model = small.MODEL.model_copy(update={"tied": tied})
    covered: dict[str, set[tuple[int, ...]]] = {}
    shapes: dict[str, int] = {}
    for parts in ranks.run(fresh_weights, world, layout, model):
        for name, (offset, values) in parts:
            full = full_tensor(name, expected_shape(name, model), model, seed=3)
            window = tuple(slice(start, start + size) for start, size in zip(offset, values.shape, strict=True))
            assert torch.equal(values, full[window]), name
            if offset not in covered.setdefault(name, set()):
                covered[name].add(offset)
                shapes[name] = shapes.get(name, 0) + values.numel()
    assert len(shapes) == 6 * model.layers + (2 if tied else 3)
    assert all(count == torch.Size(expected_shape(name, model)).numel() for name, count in shapes.items())


def expected_shape(name: str, model: ModelSettings) -> tuple[int, ...]:
    hidden, key_values = model.hidden, 2 * model.kv_heads * model.head_size
    by_end = {
        "word_embeddings.weight": (256, hidden), "output_layer.weight": (256, hidden), "linear_qkv.weight": (hidden + key_values, hidden),
        "linear_proj.weight": (hidden, hidden), "linear_fc1.weight": (2 * model.ffn, hidden), "linear_fc2.weight": (hidden, model.ffn),
    }  # fmt: skip
    return next((shape for end, shape in by_end.items() if name.endswith(end)), (hidden,))


def test_norms_are_ones_and_biases_zeros() -> None:
    assert torch.equal(full_tensor("decoder.layers.1.self_attention.linear_qkv.layer_norm_weight", (8,), ModelSettings(), seed=1), torch.ones(8))
    assert torch.equal(full_tensor("decoder.layers.1.self_attention.linear_qkv.bias", (8,), ModelSettings(), seed=1), torch.zeros(8))


def test_fresh_weights_are_normal_with_the_residual_projections_scaled() -> None:
    model = ModelSettings(hidden=256, ffn=512, layers=8, heads=4, kv_heads=4, init_std=0.05)
    matrix = full_tensor("decoder.layers.3.self_attention.linear_qkv.weight", (768, 256), model, seed=1)
    into_residual = full_tensor("decoder.layers.3.mlp.linear_fc2.weight", (256, 512), model, seed=1)
    assert matrix.mean().abs() < 1e-3 and matrix.std() == pytest.approx(0.05, rel=0.02)
    assert into_residual.std() == pytest.approx(0.05 / 4, rel=0.02)  # sqrt(2 x 8 layers) = 4
    assert torch.equal(full_tensor("decoder.final_layernorm.weight", (256,), model, seed=1), torch.ones(256))


def test_fresh_weights_follow_the_seed_and_the_name() -> None:
    one = full_tensor("a.weight", (8, 8), small.MODEL, seed=1)
    assert torch.equal(one, full_tensor("a.weight", (8, 8), small.MODEL, seed=1))
    assert not torch.equal(one, full_tensor("a.weight", (8, 8), small.MODEL, seed=2))
    assert not torch.equal(one, full_tensor("b.weight", (8, 8), small.MODEL, seed=1))
