"""What this rank writes of model and optimizer: boxes of global tensors, without gathering anything.

megatron's own ``fully_reshardable`` save gathers the optimizer's state over all replicas first (12 bytes a parameter,
on every rank). Its names and shapes are kept here, so its loader reads the result under any layout; but each replica
writes the flat range it owns, cut into boxes of the tensor's own dimensions, which torch_dist stores like any other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories, is_main_replica
from megatron.core.fp8_utils import dequantize_fp8_tensor, is_float8tensor

from megatron_snow.model.initialise import SHARDING, sharded_parts
from megatron_snow.parallel.groups import replica_group
from megatron_snow.parallel.optimizer_fixes import prepare_state, torch_optimizers

OPTIMIZER_FORMAT = "fully_reshardable"
"""megatron's name for optimizer state stored per parameter in model space."""


@dataclass(frozen=True)
class Shard:
    """A box of a global tensor: its name and shape, where the box begins, and the box (a view of what is trained)."""

    name: str
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    data: torch.Tensor


def naming() -> dict[str, Any]:
    """The metadata by which megatron names and shards model and optimizer; the same for saving and loading."""
    return {**SHARDING, "distrib_optim_sharding_type": OPTIMIZER_FORMAT, "chained_optim_avoid_prefix": True, "dp_cp_group": replica_group()}


def model_shards(chunks: list[Any]) -> Iterator[Shard]:
    """The weights this rank writes: those of which it holds the first replica. FP8 weights become high-precision ones."""
    for chunk in chunks:
        sharded = chunk.sharded_state_dict(metadata=naming())
        apply_factories(sharded)
        for part in nested_values(sharded):
            if isinstance(part, ShardedTensor) and is_main_replica(part.replica_id):
                data = dequantize_fp8_tensor(part.data) if is_float8tensor(part.data) else part.data
                yield Shard(part.key, tuple(part.global_shape), tuple(part.global_offset), data.detach())


def optimizer_shards(chunks: list[Any], optimizer: Any) -> Iterator[Shard]:
    """The optimizer state this rank writes: fp32 main weights and moments of the range it owns."""
    prepare_state(optimizer)
    parts_of = {id(weight): parts for chunk in chunks for weight, parts in sharded_parts(chunk)}
    for one in torch_optimizers(optimizer):
        for weight in one.model_param_gbuf_map:
            owned = one._get_model_param_range_map(weight)["param"]
            state = one._get_main_param_and_optimizer_states(weight)
            for name in ("param", "exp_avg", "exp_avg_sq"):
                yield from _owned_boxes(f"optimizer.state.{name}.", parts_of[id(weight)], owned.start, owned.end, state[name].detach())


def optimizer_settings(optimizer: Any) -> Any:
    """What of the optimizer is the same on every rank (groups, step count), as megatron's loader expects it; a copy."""
    prepare_state(optimizer)
    inner = getattr(optimizer, "chained_optimizers", [optimizer])
    if len(inner) > 1:
        optimizer._synchronize_steps()
    states = [{**copy.deepcopy(one.state_dict()), "param_state_sharding_type": OPTIMIZER_FORMAT} for one in inner]
    return states[0] if len(states) == 1 else dict(enumerate(states))


def _owned_boxes(prefix: str, parts: list[ShardedTensor], start: int, end: int, flat: torch.Tensor) -> Iterator[Shard]:
    """Boxes of the range ``start`` to ``end`` of a weight whose ``parts`` lie one after the other in memory; ``flat`` holds the range."""
    begin = 0
    for part in parts:
        numel = math.prod(part.local_shape)
        first, last = max(start, begin), min(end, begin + numel)
        if first < last and not any(part.replica_id[:-1]):  # the last number counts replicas, and those share the state
            for offset, sizes in boxes(tuple(part.local_shape), first - begin, last - begin):
                length = math.prod(sizes)
                place = tuple(outer + inner for outer, inner in zip(part.global_offset, offset, strict=True))
                yield Shard(prefix + part.key, tuple(part.global_shape), place, flat[first - start : first - start + length].view(sizes))
                first += length
        begin += numel


def boxes(shape: tuple[int, ...], start: int, end: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(offset, sizes) of the fewest boxes that make up the row-major range ``start`` to ``end`` of a tensor, in order."""
    if start >= end:
        return
    if len(shape) == 1:
        yield (start,), (end - start,)
        return
    row = math.prod(shape[1:])
    first, last = -(-start // row), end // row  # the whole rows
    if first > last:  # within one row
        yield from _in_row(shape, last, start, end)
        return
    yield from _in_row(shape, first - 1, start, first * row)
    if first < last:
        yield (first, *(0 for _ in shape[1:])), (last - first, *shape[1:])
    yield from _in_row(shape, last, last * row, end)


def _in_row(shape: tuple[int, ...], row: int, start: int, end: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    begin = row * math.prod(shape[1:])
    for offset, sizes in boxes(shape[1:], start - begin, end - begin):
        yield (row, *offset), (1, *sizes)
