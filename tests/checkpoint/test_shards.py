"""The boxes of a flat range, and what plain megatron-core makes of a checkpoint of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.checkpoint.shards import boxes
from megatron_snow.checkpoint.weights import read_weights
from tests.checkpoint.conftest import UNTIED
from tests.training import ranks


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_boxes_cover_the_range_in_order_and_nothing_else(shape: list[int], data: Any) -> None:
    numel = math.prod(shape)
    start = data.draw(st.integers(0, numel))
    end = data.draw(st.integers(start, numel))
    numbers = torch.arange(numel).view(shape)
    found = [numbers[tuple(slice(o, o + s) for o, s in zip(offset, sizes, strict=True))].flatten() for offset, sizes in boxes(tuple(shape), start, end)]
    assert torch.equal(torch.cat([torch.empty(0, dtype=torch.int64), *found]), torch.arange(start, end))
    assert len(found) <= 2 * len(shape) - 1


def plain_megatron(rank: int, world: int, rendezvous: str, folder: Path) -> dict[str, torch.Tensor]:
    """megatron-core's own model, layer spec and loader, on tensor 2; of ours only the CPU's shim. The weights, by megatron's names, gathered."""
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
    from megatron.core.transformer.transformer_config import TransformerConfig

    from megatron_snow.parallel import cpu_device

    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=world)
    cpu_device.activate()
    model_parallel_cuda_manual_seed(1)
    config = TransformerConfig(
        num_layers=UNTIED.layers, hidden_size=UNTIED.hidden, ffn_hidden_size=UNTIED.ffn, num_attention_heads=UNTIED.heads, num_query_groups=UNTIED.kv_heads,
        normalization="RMSNorm", gated_linear_unit=True, activation_func=torch.nn.functional.silu, add_bias_linear=False, use_cpu_initialization=True,
        persist_layer_norm=False, gradient_accumulation_fusion=False, tensor_model_parallel_size=world, params_dtype=torch.float32,
        bias_activation_fusion=False, bias_dropout_fusion=False,
    )  # fmt: skip
    model = GPTModel(
        config=config, transformer_layer_spec=get_gpt_layer_local_spec(normalization="RMSNorm"), vocab_size=256, max_sequence_length=32,
        position_embedding_type="rope", share_embeddings_and_output_weights=False,
    )  # fmt: skip
    wanted = model.sharded_state_dict(metadata={"non_homogeneous_layers": True})
    wanted = {name: part for name, part in wanted.items() if not name.endswith("_extra_state")}
    model.load_state_dict(dist_checkpointing.load(wanted, str(folder)), strict=False)
    return {name: weight.detach() for name, weight in model.named_parameters()}


_TWO_NAMES = {"input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight", "pre_mlp_layernorm.weight": "mlp.linear_fc1.layer_norm_weight"}
"""Norms that a fused layer holds inside its matrix: megatron's local spec has them apart, and maps the stored names."""


@pytest.mark.parametrize("world", [1, 2])
def test_plain_megatron_core_loads_a_checkpoint_of_ours(world: int, checkpoint: Path) -> None:
    parts = ranks.run(plain_megatron, world, checkpoint)
    expected = dict(read_weights(checkpoint))
    assert len(parts[0]) == len(expected)
    for name in parts[0]:
        stored = name
        for theirs, ours in _TWO_NAMES.items():
            stored = stored.replace(theirs, ours)
        assert torch.equal(_joined(name, [part[name] for part in parts]), expected[stored]), name


def _joined(name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    if parts[0].dim() == 1:
        assert all(torch.equal(part, parts[0]) for part in parts)
        return parts[0]
    if name.endswith("linear_fc1.weight"):  # each rank: a slice of the gate, then one of the up half
        return torch.cat([half for index in range(2) for half in (part.chunk(2)[index] for part in parts)])
    return torch.cat(parts, dim=1 if name.endswith(("linear_proj.weight", "linear_fc2.weight")) else 0)


def both_ways(rank: int, world: int, rendezvous: str, folder: Path) -> tuple[Any, Any, Any, Any]:
    """(stored tensors, common state) of the same trained model and optimizer as megatron's own save writes them, and as ours does."""
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies.base import SaveShardedStrategy
    from megatron.core.dist_checkpointing.strategies.torch import MCoreSavePlanner, _replace_state_dict_keys_with_sharded_keys, mcore_to_pyt_state_dict
    from torch.distributed.checkpoint import FileSystemWriter
    from torch.distributed.checkpoint import save as save_tensors

    from megatron_snow.checkpoint.engine import load, save
    from megatron_snow.checkpoint.shards import naming
    from megatron_snow.checkpoint.store import read_description, step_folder
    from megatron_snow.parallel.settings import Layout
    from megatron_snow.training.engine import Engine
    from tests.checkpoint.conftest import AT_STEP_3
    from tests.training import small

    class InThisProcess(SaveShardedStrategy):  # megatron's own leaves a process behind that the test would have to hunt down
        def save(self, sharded_state_dict: Any, checkpoint_dir: Any) -> None:
            by_name, _, _ = _replace_state_dict_keys_with_sharded_keys(sharded_state_dict, keep_only_main_replica=True)
            planner = MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False)
            save_tensors(mcore_to_pyt_state_dict(by_name), storage_writer=FileSystemWriter(checkpoint_dir), planner=planner)

        @property
        def can_handle_sharded_objects(self) -> bool:
            return True

    layout = Layout(tensor=2, data=2)
    backend, place = ranks.joined(layout, rank, world, rendezvous)
    engine = Engine(AT_STEP_3, small.phase(), UNTIED, 256, layout, backend, place)
    description = load(folder, engine.chunks, engine.optimizer, read_description(folder), place)
    theirs, ours = folder.parent / "theirs", folder.parent / "ours"
    if rank == 0:
        theirs.mkdir()
    torch.distributed.barrier()
    model = {name: part for name, part in engine.chunks[0].sharded_state_dict(metadata=naming()).items() if not name.endswith("_extra_state")}
    state = {"model": model, "optimizer": engine.optimizer.sharded_state_dict(model, is_loading=False, metadata=naming())}
    dist_checkpointing.save(state, str(theirs), InThisProcess("torch_dist", 1))
    save(ours, engine.chunks, engine.optimizer, description, 1, place)
    ours = step_folder(ours, 3)
    tensors = [dist_checkpointing.load_plain_tensors(str(one)) for one in (theirs, ours)]
    return tensors[0], tensors[1], tensors[0].pop("optimizer"), tensors[1].pop("optimizer")


def test_what_is_stored_is_what_megatrons_own_save_stores(checkpoint: Path) -> None:
    theirs, ours, common, our_common = ranks.run(both_ways, 4, checkpoint)[0]
    assert len(theirs) == 4 * (6 * 4 + 3) and theirs.keys() == ours.keys()
    assert all(ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert our_common == common
