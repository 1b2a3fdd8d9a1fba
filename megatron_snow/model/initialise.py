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
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory, apply_factories

from megatron_snow.model.settings import ModelSettings

SHARDING = {"non_homogeneous_layers": True, "singleton_local_shards": False}
"""How megatron names a model's tensors: each layer's under its own global number."""
_INTO_RESIDUAL = ("self_attention.linear_proj.weight", "mlp.linear_fc2.weight")


def sharded_parts(chunk: Any) -> Iterator[tuple[torch.Tensor, list[ShardedTensor]]]:
    """Each of this rank's weights with its parts, in order along dimension 0: global name, shape and offset of each.

    A weight has one part, but for SwiGLU's first matrix: a tensor-parallel rank holds a slice of its gate and one of its up half.
    """
    sharded = chunk.sharded_state_dict(metadata=SHARDING)
    for whole in list(nested_values(sharded)):
        if isinstance(whole, ShardedTensor | ShardedTensorFactory):
            parts = {"": whole}
            apply_factories(parts)
            yield whole.data, [part for part in nested_values(parts) if isinstance(part, ShardedTensor)]


def full_tensor(name: str, shape: tuple[int, ...], model: ModelSettings, seed: int) -> torch.Tensor:
    """The whole fresh tensor in fp32 on the CPU: ones for norms, zeros for biases, normal for matrices."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big"))
    std = model.init_std / (2 * model.layers) ** 0.5 if name.endswith(_INTO_RESIDUAL) else model.init_std
    return torch.empty(shape).normal_(0.0, std, generator=generator)


@torch.no_grad()
def initialise(chunks: Iterable[Any], model: ModelSettings, seed: int) -> None:
    """Fill every parameter of this rank's model pieces."""
    for chunk in chunks:
        filled = 0
        for weight, parts in sharded_parts(chunk):
            full = full_tensor(parts[0].key, tuple(parts[0].global_shape), model, seed)
            windows = [tuple(slice(start, start + size) for start, size in zip(part.global_offset, part.local_shape, strict=True)) for part in parts]
            weight.copy_(torch.cat([full[window] for window in windows]))  # at once: an FP8 weight finds its scales from the whole
            filled += weight.numel()
        assert filled == sum(parameter.numel() for parameter in chunk.parameters()), "a parameter escaped initialisation"
