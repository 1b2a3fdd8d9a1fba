"""Model weights of a checkpoint, whole and one at a time, without process groups, megatron or optimizer state.

Names and shapes (h hidden, f ffn, d head size, q heads, k kv heads, V padded vocabulary), dtype as trained (bf16 or fp32):

    embedding.word_embeddings.weight                                [V, h]
    decoder.layers.N.self_attention.linear_qkv.layer_norm_weight    [h]             norm before attention
    decoder.layers.N.self_attention.linear_qkv.weight               [(q + 2k) d, h] per kv head: its q/k query heads, then key, then value
    decoder.layers.N.self_attention.linear_qkv.bias                 [(q + 2k) d]    in the same order; only where model.qkv_bias
    decoder.layers.N.self_attention.linear_proj.weight              [h, q d]
    decoder.layers.N.mlp.linear_fc1.layer_norm_weight               [h]             norm before the MLP
    decoder.layers.N.mlp.linear_fc1.weight                          [2 f, h]        gate rows, then up rows
    decoder.layers.N.mlp.linear_fc2.weight                          [h, f]
    decoder.final_layernorm.weight                                  [h]
    output_layer.weight                                             [V, h]          absent where embeddings are tied

They come in this order (layers by number), whatever layout saved them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata
from megatron_snow.checkpoint.pieces import read_piece
from megatron_snow.checkpoint.store import DESCRIPTION, verify

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_ENDS = {"embedding.word_embeddings.weight": -1, "decoder.final_layernorm.weight": 1, "output_layer.weight": 2}
_IN_LAYER = (
    "self_attention.linear_qkv.layer_norm_weight", "self_attention.linear_qkv.weight", "self_attention.linear_qkv.bias",
    "self_attention.linear_proj.weight",
    "mlp.linear_fc1.layer_norm_weight", "mlp.linear_fc1.weight", "mlp.linear_fc2.weight",
)  # fmt: skip


def _order(name: str) -> tuple[int, int, int]:
    if match := _LAYER.fullmatch(name):
        return (0, int(match[1]), _IN_LAYER.index(match[2]))
    return (_ENDS[name], 0, 0)


def _is_weight(name: str) -> bool:
    match = _LAYER.fullmatch(name)
    return name in _ENDS or (match is not None and match[2] in _IN_LAYER)


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every model weight of a checkpoint, in reading order. Raises SnowError where it is not one of ours."""
    return {name: tuple(entry.size) for name, entry in _weights(read_metadata(folder), folder).items()}


def read_weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, whole tensor) for every model weight; holds one tensor and, where it is stored in several, one piece of it at a time.

    Each piece is checked by its own checksum as it is read, ``.metadata`` by that in ``checkpoint.json`` (where there is one); optimizer state is not read.

    Raises:
        SnowError: where the checkpoint is damaged, lacks a piece of a weight, or is not one of ours.
    """
    if (folder / DESCRIPTION).exists():
        verify(folder, only={".metadata"})
    metadata = read_metadata(folder)
    weights = _weights(metadata, folder)
    for name, entry in weights.items():
        yield name, _assemble(folder, metadata, name, entry)


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint holds optimizer state beside the weights. Raises SnowError where it is damaged."""
    return any(name.startswith("optimizer.") for name in read_metadata(folder).state_dict_metadata)


def _weights(metadata: Metadata, folder: Path) -> dict[str, TensorStorageMetadata]:
    found = {name: entry for name, entry in metadata.state_dict_metadata.items() if _is_weight(name) and isinstance(entry, TensorStorageMetadata)}
    if "embedding.word_embeddings.weight" not in found:
        raise SnowError(f"{folder} holds no model weights under the names megatron_snow gives them: name one of its checkpoints")
    return {name: found[name] for name in sorted(found, key=_order)}


def _assemble(folder: Path, metadata: Metadata, name: str, entry: TensorStorageMetadata) -> torch.Tensor:
    if len(entry.chunks) == 1 and entry.chunks[0].sizes == entry.size:
        return _read_chunk(folder, metadata, name, entry, entry.chunks[0])
    whole = torch.empty(entry.size, dtype=entry.properties.dtype)
    filled = 0
    for chunk in entry.chunks:
        window = tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))
        whole[window] = _read_chunk(folder, metadata, name, entry, chunk)
        filled += math.prod(chunk.sizes)
    if filled != whole.numel():
        raise SnowError(f"{folder}: the stored pieces of {name} hold {filled} of its {whole.numel()} numbers: damaged, use another checkpoint")
    return whole


def _read_chunk(folder: Path, metadata: Metadata, name: str, entry: TensorStorageMetadata, chunk: ChunkStorageMetadata) -> torch.Tensor:
    place = metadata.storage_data.get(MetadataIndex(name, chunk.offsets)) if metadata.storage_data else None
    if place is None:
        raise SnowError(f"{folder}: .metadata does not say where {name} at {tuple(chunk.offsets)} is stored: damaged, use another checkpoint")
    piece = read_piece(folder / place.relative_path, place.offset, place.length, name)
    if piece.shape != chunk.sizes or piece.dtype != entry.properties.dtype:
        raise SnowError(f"{folder}: a stored piece of {name} is {list(piece.shape)} {piece.dtype}, not as described: damaged, use another checkpoint")
    return piece
