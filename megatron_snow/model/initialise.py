"""Fresh weights that do not depend on the layout.

Every tensor is drawn whole from a generator seeded with (seed, the tensor's global name), and each rank keeps the
part megatron's own sharding gives it. Trade-off: tensor-parallel ranks draw what they throw away (some seconds at
1.3B parameters); in return any two layouts start from bitwise the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories

from megatron_snow.model.settings import ModelSettings

SHARDING = {"non_homogeneous_layers": True, "singleton_local_shards": False}
"""How megatron names a model's tensors: each layer's under its own global number."""
_INTO_RESIDUAL = ("self_attention.linear_proj.weight", "mlp.linear_fc2.weight")


def sharded_parts(chunk: Any) -> Iterator[ShardedTensor]:
    """This rank's parts of the model's tensors, each with its global name, shape and offset; ``data`` is a view of the weight."""
    sharded = chunk.sharded_state_dict(metadata=SHARDING)
    apply_factories(sharded)
    for value in nested_values(sharded):
        if isinstance(value, ShardedTensor):
            yield value


def full_tensor(name: str, shape: tuple[int, ...], model: ModelSettings, seed: int) -> torch.Tensor:
    """The whole fresh tensor in fp32 on the CPU: ones for norms, normal for matrices."""
    if len(shape) == 1:
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big"))
    std = model.init_std / (2 * model.layers) ** 0.5 if name.endswith(_INTO_RESIDUAL) else model.init_std
    return torch.empty(shape).normal_(0.0, std, generator=generator)


@torch.no_grad()
def initialise(chunks: Iterable[Any], model: ModelSettings, seed: int) -> None:
    """Fill every parameter of this rank's model pieces."""
    for chunk in chunks:
        filled, name, full = 0, "", torch.empty(0)
        for part in sharded_parts(chunk):
            if part.key != name:  # the two halves of SwiGLU's first matrix come one after the other under one name
                name, full = part.key, full_tensor(part.key, tuple(part.global_shape), model, seed)
            window = tuple(slice(start, start + size) for start, size in zip(part.global_offset, part.local_shape, strict=True))
            part.data.copy_(full[window])
            filled += part.data.numel()
        assert filled == sum(parameter.numel() for parameter in chunk.parameters()), "a parameter escaped initialisation"
